/** An image for a task: dropped, chosen, or dragged from the gallery; it is stored on the server at once. */
import { useSignal } from "@preact/signals";
import { useRef } from "preact/hooks";
import { AtelierError } from "@atelier/client/web";
import type { Source } from "../draft";
import { items, urlOf } from "../gallery";
import { capabilities, store } from "../server";
import { Field } from "./Fields";

/** What the gallery says of an image that is dragged: the id of its item. */
export const ITEM_TYPE = "application/x-atelier-item";
const TYPES = ["image/png", "image/jpeg", "image/webp", "image/avif"];

interface Props {
  label: string;
  path: string;
  source: Source | undefined;
  set: (source: Source | undefined) => void;
}

export function SourceField({ label, path, source, set }: Props) {
  const state = useSignal("");
  const isOver = useSignal(false);
  const newest = useRef(0); // an image that takes longer to send must not replace one that was chosen after it

  async function take(file: Blob | undefined, name: string) {
    if (!file) return;
    const mine = ++newest.current;
    if (!TYPES.includes(file.type)) {
      state.value = "This is no PNG, JPEG, WebP or AVIF.";
      return;
    }
    const most = capabilities.value?.maxUploadBytes ?? 0n;
    if (most > 0n && BigInt(file.size) > most) {
      state.value = `A file may have at most ${most / 2n ** 20n} MiB.`;
      return;
    }
    state.value = "Sending …";
    try {
      const artifactId = await store(file);
      if (mine !== newest.current) return;
      set({ artifactId, name, file });
      state.value = "";
    } catch (thrown) {
      if (mine === newest.current) state.value = AtelierError.from(thrown).message;
    }
  }

  function drop(data: DataTransfer | null) {
    const item = items.value.find(({ id }) => id === data?.getData(ITEM_TYPE));
    const file = data?.files[0];
    void take(item?.file ?? file, item ? item.draft.prompt : (file?.name ?? ""));
  }

  return (
    <Field label={label} path={path}>
      {(bound) => (
        <div
          class={isOver.value ? "source over" : "source"}
          onDragOver={(event) => (event.preventDefault(), (isOver.value = true))}
          onDragLeave={() => (isOver.value = false)}
          onDrop={(event) => (event.preventDefault(), (isOver.value = false), drop(event.dataTransfer))}
        >
          {source && <img src={urlOf(source.file)} alt={source.name} />}
          <span aria-hidden="true">{source ? source.name : "Drop an image here, or choose a file"}</span>
          <input
            {...bound}
            type="file"
            accept={TYPES.join()}
            onChange={({ currentTarget: { files } }) => take(files?.[0], files?.[0]?.name ?? "")}
          />
          {source && (
            <button
              type="button"
              class="quiet"
              aria-label={`Remove ${label.toLowerCase()}`}
              onClick={() => (newest.current++, (state.value = ""), set(undefined))}
            >
              ✕
            </button>
          )}
          <span role="status" class="state">
            {state.value}
          </span>
        </div>
      )}
    </Field>
  );
}
