import type { RefObject } from "preact";
import { token } from "../server";

/** Takes the caller's API key or token. */
export function TokenDialog({ dialog }: { dialog: RefObject<HTMLDialogElement | null> }) {
  function save(form: HTMLFormElement) {
    token.value = new FormData(form).get("token")?.toString().trim() ?? "";
  }
  return (
    <dialog ref={dialog} aria-labelledby="token-title">
      <form method="dialog" onSubmit={(event) => save(event.currentTarget)}>
        <h2 id="token-title">Key</h2>
        <p>An API key or a token of this server. It is kept until the tab closes, and sent to this server alone.</p>
        <div class="field">
          <div class="label">
            <label for="token">API key or token</label>
          </div>
          <input
            id="token"
            name="token"
            type="password"
            autocomplete="off"
            spellcheck={false}
            defaultValue={token.value}
          />
        </div>
        <div class="row end">
          <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
            Close
          </button>
          <button type="submit" class="primary small">
            Use it
          </button>
        </div>
      </form>
    </dialog>
  );
}
