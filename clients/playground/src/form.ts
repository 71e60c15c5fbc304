/** The state of the form: the draft, its engine, what the server says of it before it is sent, and what is wrong. */
import { computed, effect, signal } from "@preact/signals";
import { Disposition, type Engine, type PlanGenerationResponse } from "@atelier/client/contract";
import { AtelierError } from "@atelier/client/web";
import { type Draft, EMPTY, isComplete, toRequest } from "./draft";
import { isReady, makes } from "./engines";
import { capabilities, client } from "./server";
import { sayValue } from "./words";

const PLAN_DELAY_MS = 350;

export const draft = signal<Draft>(EMPTY);
/** What is wrong with the draft, by the path in its task, such as `width`; the empty path is for all of it. */
export const problems = signal<ReadonlyMap<string, string>>(new Map());
/** What the server would do with the draft; undefined while it is not known. */
export const plan = signal<PlanGenerationResponse>();

/** Engines that make what the draft is for. */
export const engines = computed<Engine[]>(() =>
  (capabilities.value?.engines ?? []).filter((engine) => makes(engine, draft.value.kind)),
);

/** The engine of the draft: the chosen one, else the server's default, else the first that is ready. */
export const engine = computed<Engine | undefined>(() => {
  const named = (name: string | undefined) => engines.value.find((each) => each.name === name);
  return (
    named(draft.value.engine) ??
    named(capabilities.value?.defaultEngine) ??
    engines.value.find(isReady) ??
    engines.value[0]
  );
});

/** Change the draft; what was wrong with it is forgotten. */
export function update(change: Partial<Draft>): void {
  draft.value = { ...draft.value, ...change };
  problems.value = new Map();
}

/** Show what is wrong with the draft at its fields, and the rest at its end. */
export function report(error: AtelierError): void {
  const found = new Map<string, string>();
  for (const [path, text] of error.fields) found.set(toPath(path), text);
  if (found.size === 0) found.set("", error.message);
  problems.value = found;
}

/** The path in the form of a path in the request: `negativePrompt` of `image.negative_prompt`. */
function toPath(field: string): string {
  return field.replace(/^(image|audio)\.?/, "").replaceAll(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

const shown = new Map<string, number>();

/** Tell that a field with this path is in the form, as long as the result is not called. */
export function place(path: string): () => void {
  shown.set(path, (shown.get(path) ?? 0) + 1);
  return () => shown.set(path, shown.get(path)! - 1);
}

/** What is wrong with what no field of the form is for; empty if nothing is. */
export function problemElsewhere(): string {
  const isShown = (path: string) =>
    [...shown].some(([each, count]) => count > 0 && (path === each || path.startsWith(`${each}.`) || path.startsWith(`${each}[`)));
  const found = [...problems.value].filter(([path]) => !isShown(path));
  return found.map(([path, text]) => (path && !text.includes(path) ? `${path}: ${text}` : text)).join("; ");
}

/** What is wrong with a field or with what is in it; empty if nothing is. */
export function problemOf(path: string): string {
  const found = [...problems.value].filter(
    ([each]) => each === path || each.startsWith(`${path}.`) || each.startsWith(`${path}[`),
  );
  return found.map(([, text]) => text).join("; ");
}

/** What the server would make of the value in a field: of `width`, the width that the engine can make. */
export function noteOf(parameter: string): string {
  const found = plan.value?.parameters.find(({ name }) => name === parameter);
  if (!found?.requested) return "";
  const [asked, why] = [sayValue(found.requested), found.explanation && `: ${found.explanation}`];
  if (found.disposition === Disposition.CLAMPED) return `${asked} becomes ${sayValue(found.value)}${why}`;
  if (found.disposition === Disposition.IGNORED) return `${asked} has no effect here${why}`;
  return found.disposition === Disposition.EMULATED ? `${asked} is emulated${why}` : "";
}

/** Changes when another plan may come out: not with every look at the capabilities. */
const engineState = computed(() => `${engine.value?.name} ${engine.value?.state}`);

// Asks for the plan a moment after the last change.
effect(() => {
  const [wanted, server] = [draft.value, client.value];
  const chosen = engineState.value ? engine.peek() : undefined;
  if (!chosen || !isComplete(wanted)) {
    plan.value = undefined;
    return;
  }
  const leaving = new AbortController();
  const timer = setTimeout(async () => {
    try {
      const generate = toRequest(wanted, chosen);
      plan.value = await server.stub.planGeneration({ generate }, { signal: leaving.signal });
    } catch (thrown) {
      if (leaving.signal.aborted) return;
      plan.value = undefined;
      const error = AtelierError.from(thrown, "generate.");
      if (error.fields.size > 0) report(error);
    }
  }, PLAN_DELAY_MS);
  return () => {
    clearTimeout(timer);
    leaving.abort();
  };
});
