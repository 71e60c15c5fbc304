/** The form: what to make, with which engine, and what it will take. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { EngineState } from "@atelier/client/contract";
import { isComplete } from "../draft";
import { AudioFeature, hasAudio, isReady, type Kind } from "../engines";
import { draft, engine, engines, plan, problemElsewhere, problems, update } from "../form";
import { isFull, start } from "../runs";
import { capabilities } from "../server";
import { sayCost, sayDuration } from "../words";
import { AudioFields } from "./AudioFields";
import { Choice, Segments, TextField } from "./Fields";
import { ImageFields } from "./ImageFields";

export function Composer() {
  const { value } = draft;
  const chosen = engine.value;
  const speaks = value.kind === "audio" && hasAudio(chosen?.audio, AudioFeature.SPEECH);
  const limits = value.kind === "image" ? chosen?.image : chosen?.audio;
  return (
    <form
      class="composer"
      aria-label="New generation"
      noValidate
      onSubmit={(event) => (event.preventDefault(), submit(event.currentTarget))}
      onKeyDown={submitByKeys}
    >
      <div class="fields">
        <Segments
          label="Make"
          path="kind"
          value={value.kind}
          options={[
            ["image", "Images"],
            ["audio", "Audio"],
          ]}
          set={(kind) => update({ kind: kind as Kind })}
        />
        {chosen && (
          <Choice
            label="Engine"
            path="engine"
            value={chosen.name}
            options={engines.value.map((each) => [each.name, isReady(each) ? each.name : `${each.name} (not ready)`])}
            set={(name) => update({ engine: name })}
          />
        )}
        {chosen && (
          <p class="about">
            {isReady(chosen)
              ? chosen.description
              : `${chosen.name} is ${EngineState[chosen.state].toLowerCase()}: ${chosen.stateMessage || "please wait"}`}
          </p>
        )}
        <TextField
          label={speaks ? "Words to say" : "Prompt"}
          path="prompt"
          rows={4}
          max={limits?.maxPromptLength}
          placeholder={PLACEHOLDERS[speaks ? "speech" : value.kind]}
          value={value.prompt}
          set={(prompt) => update({ prompt })}
        />
        {value.kind === "image" && chosen?.image && <ImageFields image={chosen.image} />}
        {value.kind === "audio" && chosen?.audio && <AudioFields audio={chosen.audio} />}
        {capabilities.value && !chosen && (
          <p class="about">No engine of this server makes {value.kind === "image" ? "images" : "audio"}.</p>
        )}
      </div>
      <div class="send">
        <p class="problem" role="alert">
          {problems.value.size > 0 && (problemElsewhere() || "Please look at the marked fields.")}
        </p>
        <Plan />
        <button type="submit" class="primary" disabled={!chosen || isFull()} title="Ctrl+Enter">
          {isFull() ? "Four are running" : "Generate"}
        </button>
      </div>
    </form>
  );
}

const PLACEHOLDERS = {
  image: "A lighthouse on a cliff at dusk, oil on canvas",
  audio: "Rain on a tin roof, distant thunder",
  speech: "Good evening, and welcome to the atelier.",
};

/** Cost and time, or why the request would be rejected. */
function Plan() {
  const found = plan.value;
  if (!found) return <p class="plan" />;
  if (found.rejection) return <p class="plan rejected">{found.rejection.message}</p>;
  const wait =
    found.estimatedWait && durationMs(found.estimatedWait) > 0
      ? `waits ${sayDuration(found.estimatedWait)}`
      : "no wait";
  const takes = found.estimatedDuration ? `takes about ${sayDuration(found.estimatedDuration)}` : "";
  return (
    <p class="plan" aria-label="Plan">
      {[takes, wait, sayCost(found.cost)].filter(Boolean).join(" · ")}
    </p>
  );
}

async function submit(form: HTMLFormElement) {
  const chosen = engine.value;
  if (!chosen || isFull()) return;
  if (isComplete(draft.value)) {
    document.querySelector(".stage")?.scrollIntoView({ block: "nearest" });
    if (await start(draft.value, chosen)) return;
  } else {
    problems.value = new Map([["prompt", "Say what to make."]]);
  }
  requestAnimationFrame(() => form.querySelector<HTMLElement>("[aria-invalid=true]")?.focus());
}

function submitByKeys(event: KeyboardEvent & { currentTarget: HTMLFormElement }) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.currentTarget.requestSubmit();
}
