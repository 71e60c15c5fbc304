/** What this browser has made, newest first, and what runs now. */
import { type Item, items, notKept, selected, urlOf } from "../gallery";
import { outcome, type Run, runs } from "../runs";
import { sayCount, sayProgress } from "../words";
import { ITEM_TYPE } from "./SourceField";

export function Gallery() {
  const made = items.value;
  if (made.length === 0 && runs.value.length === 0) return null;
  return (
    <section class="gallery" aria-label="Gallery">
      <h2>
        Gallery <small>{sayCount(made.length, "output")} of this browser</small>
      </h2>
      {notKept.value && <p class="problem">{notKept.value}</p>}
      <ul>
        {runs.value.map((run, index) => (
          <RunningTile run={run} key={`run-${index}`} />
        ))}
        {made.map((item) => (
          <Tile item={item} key={item.id} />
        ))}
      </ul>
    </section>
  );
}

function RunningTile({ run }: { run: Run }) {
  return (
    <li>
      <button
        type="button"
        class="tile"
        aria-label={`Running: ${run.draft.prompt}`}
        onClick={() => (selected.value = undefined)}
      >
        {run.preview.value ? <img src={run.preview.value} alt="" /> : <span class="shimmer" />}
        <span class="tag">{sayProgress(run.event.value)}</span>
      </button>
    </li>
  );
}

function Tile({ item }: { item: Item }) {
  const isImage = item.file.type.startsWith("image/");
  return (
    <li>
      <button
        type="button"
        class="tile"
        aria-pressed={selected.value === item}
        aria-label={`${item.draft.prompt || "Image"}, seed ${item.seed}`}
        draggable={isImage}
        onDragStart={(event) => event.dataTransfer?.setData(ITEM_TYPE, item.id)}
        onClick={() => show(item)}
      >
        {isImage ? (
          <img src={urlOf(item.file)} alt="" loading="lazy" draggable={false} />
        ) : (
          <span class="sound">♪</span>
        )}
        {!isImage && <span class="tag">{item.draft.prompt}</span>}
      </button>
    </li>
  );
}

function show(item: Item): void {
  outcome.value = "";
  selected.value = item;
  document.querySelector(".stage")?.scrollIntoView({ block: "nearest" });
}
