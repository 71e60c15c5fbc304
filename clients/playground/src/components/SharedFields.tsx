/** Fields of images and audio alike. */
import type { ComponentChildren } from "preact";
import { draft, problems, update } from "../form";
import { Field } from "./Fields";

/** A random 48-bit number: every engine takes it, or says that it has reduced it. */
function drawSeed(): string {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return `${(high! & 0xffff) * 2 ** 32 + low!}`;
}

export function SeedField() {
  return (
    <Field label="Seed" path="seed" hint="random when empty">
      {(bound) => (
        <div class="seed">
          <input
            {...bound}
            type="text"
            inputMode="numeric"
            pattern="[0-9]*"
            maxLength={19}
            placeholder="random"
            value={draft.value.seed}
            onInput={(event) => update({ seed: event.currentTarget.value.replaceAll(/[^0-9]/g, "") })}
          />
          <button
            type="button"
            class="quiet"
            title="Draw a seed"
            aria-label="Draw a seed"
            onClick={() => update({ seed: drawSeed() })}
          >
            ⚄
          </button>
        </div>
      )}
    </Field>
  );
}

const HIDDEN = ["model", "steps", "guidance", "scheduler", "seed", "upscale", "loudnessLufs"];

/** Fields that few need; open where one of them is wrong. */
export function More({ children }: { children: ComponentChildren }) {
  const isWrong = [...problems.value.keys()].some((path) => HIDDEN.includes(path));
  return (
    <details class="more" open={isWrong || undefined}>
      <summary>More settings</summary>
      {children}
    </details>
  );
}
