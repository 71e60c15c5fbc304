/** What this browser has generated, kept in its IndexedDB. */
import { signal } from "@preact/signals";
import { fromBinary, toBinary } from "@bufbuild/protobuf";
import { type Generation, GenerationSchema } from "@atelier/client/contract";
import type { Draft } from "./draft";

/** One output. */
export interface Item {
  /** Id of the generation and the index of the output. */
  id: string;
  time: number;
  draft: Draft;
  file: Blob;
  seed: string;
  /** The generation, as protobuf. */
  record: Uint8Array<ArrayBuffer>;
}

const NAME = "atelier";
const ITEMS = "items";

/** Newest first. */
export const items = signal<readonly Item[]>([]);
/** The item that is shown large. */
export const selected = signal<Item>();
/** Why items cannot be kept, as in a private window; empty while they are. */
export const notKept = signal("");

let database: IDBDatabase | undefined;

/** Read what was kept. */
export async function openGallery(): Promise<void> {
  try {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(ITEMS, { keyPath: "id" });
    database = await ended(opening);
    const kept = await ended(store("readonly").getAll() as IDBRequest<Item[]>);
    items.value = [...items.value, ...kept].sort((one, other) => other.time - one.time);
  } catch (error) {
    notKept.value = `Nothing is kept in this browser: ${error}`;
  }
}

/** Keep the outputs of a generation, whose bytes are given, and show the first of them if no other is shown. */
export async function keep(draft: Draft, generation: Generation, files: Blob[]): Promise<void> {
  const { outputs, ...rest } = generation;
  const light = { ...rest, outputs: outputs.map((output) => ({ ...output, data: new Uint8Array() })) };
  const record = toBinary(GenerationSchema, light) as Uint8Array<ArrayBuffer>;
  const time = Date.now();
  const made = files.map((file, index) => {
    return { id: `${generation.id}-${index}`, time, draft, file, seed: String(outputs[index]!.seed), record };
  });
  items.value = [...made, ...items.value];
  selected.value ??= made[0];
  for (const item of made) await write((kept) => kept.put(item));
}

/** Forget an item here; the server keeps its own until it expires. */
export async function remove(item: Item): Promise<void> {
  const index = items.value.indexOf(item);
  items.value = items.value.filter((each) => each !== item);
  if (selected.value === item) selected.value = items.value[index] ?? items.value[index - 1];
  await write((kept) => kept.delete(item.id));
}

export function generationOf(item: Item): Generation {
  return fromBinary(GenerationSchema, item.record);
}

const urls = new WeakMap<Blob, string>();

/** A URL of the file for this page. */
export function urlOf(file: Blob): string {
  const url = urls.get(file) ?? URL.createObjectURL(file);
  urls.set(file, url);
  return url;
}

async function write(change: (kept: IDBObjectStore) => IDBRequest): Promise<void> {
  try {
    if (database) await ended(change(store("readwrite")));
  } catch (error) {
    notKept.value = `It could not be kept in this browser: ${error}`;
  }
}

function store(mode: IDBTransactionMode): IDBObjectStore {
  return database!.transaction(ITEMS, mode).objectStore(ITEMS);
}

function ended<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}
