/** The large view: what runs, or a finished item with what can be done with it. */
import { AtelierError } from "@atelier/client/web";
import { newId } from "../draft";
import { draft, problems, update } from "../form";
import { generationOf, type Item, remove, selected, urlOf } from "../gallery";
import { isFull, outcome, type Run, cancel, runs, start } from "../runs";
import { engine } from "../form";
import { store } from "../server";
import { sayDuration, sayProgress } from "../words";
import { Player } from "./Player";
import { Receipt } from "./Receipt";

export function Stage() {
  const item = selected.value;
  const run = runs.value[0];
  return (
    <section class="stage" aria-label="Result">
      {(item || run) && outcome.value && (
        <p class="outcome" role="status">
          {outcome.value}
        </p>
      )}
      {item ? <Finished item={item} key={item.id} /> : run ? <Running run={run} /> : <Nothing />}
    </section>
  );
}

function Nothing() {
  return (
    <div class="nothing">
      <svg viewBox="0 0 120 90" aria-hidden="true">
        <rect x="6" y="6" width="108" height="78" rx="8" />
        <circle cx="38" cy="32" r="9" />
        <path d="M12 78 46 48l20 18 20-24 24 30" />
      </svg>
      <p role="status">{outcome.value || "What you generate appears here."}</p>
    </div>
  );
}

function Running({ run }: { run: Run }) {
  const event = run.event.value;
  const left = sayDuration(event?.estimatedRemaining);
  return (
    <>
      <div class="frame running">
        {run.preview.value ? (
          <img src={run.preview.value} alt={`Preview of: ${run.draft.prompt}`} />
        ) : (
          <div class="shimmer" />
        )}
      </div>
      <div class="progress">
        <progress aria-label="Progress" max={1} value={event && event.attempt > 0 ? event.progress : undefined} />
        <p role="status">{sayProgress(event)}</p>
        {left && <p class="left">about {left} left</p>}
        <button type="button" onClick={() => cancel(run)}>
          Cancel
        </button>
      </div>
      <p class="caption">{run.draft.prompt}</p>
    </>
  );
}

function Finished({ item }: { item: Item }) {
  const isImage = item.file.type.startsWith("image/");
  const url = urlOf(item.file);
  const name = `${item.id}.${item.file.type.split("/")[1]!.replace("jpeg", "jpg").replace("mpeg", "mp3")}`;
  return (
    <>
      {isImage ? (
        <div class="frame">
          <img src={url} alt={item.draft.prompt || "Generated image"} />
        </div>
      ) : (
        <Player file={item.file} label={item.draft.prompt} />
      )}
      <p class="caption">{item.draft.prompt}</p>
      <div class="actions">
        <button type="button" disabled={isFull()} onClick={() => again(item)}>
          Again with another seed
        </button>
        <button type="button" onClick={() => reuse(item)}>
          Use these settings
        </button>
        {isImage && (
          <button type="button" onClick={() => useAsInit(item)}>
            Use as init image
          </button>
        )}
        <a class="button" href={url} download={name}>
          Download
        </a>
        <button type="button" class="quiet" onClick={() => remove(item)}>
          Delete
        </button>
      </div>
      <Receipt generation={generationOf(item)} seed={item.seed} />
    </>
  );
}

/** Put the settings of an item into the form, with its seed. */
function reuse(item: Item): void {
  const controls = item.draft.controls.map((each) => ({ ...each, id: newId() }));
  draft.value = { ...item.draft, controls, engine: generationOf(item).engine, seed: item.seed };
  problems.value = new Map();
}

function again(item: Item): void {
  reuse(item);
  update({ seed: "" });
  if (engine.value) void start(draft.value, engine.value);
}

async function useAsInit(item: Item): Promise<void> {
  outcome.value = "";
  try {
    const artifactId = await store(item.file); // what the server has made before may have expired
    update({ kind: "image", initImage: { artifactId, name: item.draft.prompt, file: item.file } });
  } catch (error) {
    outcome.value = `The image could not be sent: ${AtelierError.from(error).message}`;
  }
}
