import { useRef } from "preact/hooks";
import { capabilities, token, trouble, wantsToken } from "../server";
import { Composer } from "./Composer";
import { Gallery } from "./Gallery";
import { Stage } from "./Stage";
import { nextTheme, theme } from "./theme";
import { TokenDialog } from "./TokenDialog";

export function App() {
  const dialog = useRef<HTMLDialogElement>(null);
  return (
    <>
      <a class="skip" href="#prompt-area">
        Skip to the form
      </a>
      <header>
        <h1>
          <img src="icon.svg" alt="" width="28" height="28" /> Atelier
        </h1>
        <Connection />
        <button
          type="button"
          class="quiet"
          onClick={nextTheme}
          aria-label={`Theme: ${theme.value}`}
          title={`Theme: ${theme.value}`}
        >
          {{ system: "◐", light: "☀", dark: "☾" }[theme.value]}
        </button>
        <button
          type="button"
          class={wantsToken.value ? "primary small" : "quiet"}
          onClick={() => dialog.current?.showModal()}
        >
          {token.value ? "Key ✓" : "Key"}
        </button>
      </header>
      <div class="columns">
        <aside id="prompt-area" tabIndex={-1}>
          <Composer />
        </aside>
        <main>
          <Stage />
          <Gallery />
        </main>
      </div>
      <TokenDialog dialog={dialog} />
    </>
  );
}

/** Whether the server answers. */
function Connection() {
  const error = trouble.value;
  const version = capabilities.value?.version;
  const text = wantsToken.value
    ? "This server wants a key"
    : error
      ? `No answer: ${error.message}`
      : version
        ? `Connected, version ${version}`
        : "Connecting …";
  return (
    <p class={error ? "connection bad" : "connection"} role="status">
      <span>{text}</span>
    </p>
  );
}
