/** Light, dark, or as the system says; kept in this browser. */
import { effect, signal } from "@preact/signals";
import { readKept, writeKept } from "../kept";

type Theme = "system" | "light" | "dark";
const THEMES: readonly Theme[] = ["system", "light", "dark"];
const KEY = "atelier-theme";

export const theme = signal<Theme>(THEMES.find((each) => each === readKept("localStorage", KEY)) ?? "system");

export function nextTheme(): void {
  theme.value = THEMES[(THEMES.indexOf(theme.value) + 1) % THEMES.length]!;
}

effect(() => {
  writeKept("localStorage", KEY, theme.value);
  document.documentElement.dataset["theme"] = theme.value;
});
