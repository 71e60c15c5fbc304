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
/** Tells the other tabs that something else is kept now. */
const changes = new BroadcastChannel(NAME);
/** Ids of items that this page alone has: not written yet, or not taken by the browser. */
const unkept = new Set<string>();

/** Read what was kept. */
export async function openGallery(): Promise<void> {
  try {
    const opening = indexedDB.open(NAME, 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore(ITEMS, { keyPath: "id" });
    database = await ended(opening);
    await readItems();
    changes.onmessage = () => void readItems();
  } catch (error) {
    notKept.value = `Nothing is kept in this browser: ${error}`;
  }
}

/** Show what is kept, also by other tabs; what is shown already stays as it is. */
async function readItems(): Promise<void> {
  const kept = await ended(store("readonly").getAll() as IDBRequest<Item[]>);
  const known = new Map(items.value.map((item) => [item.id, item]));
  const all = [...items.value.filter(({ id }) => unkept.has(id)), ...kept.filter(({ id }) => !unkept.has(id))];
  items.value = all.map((item) => known.get(item.id) ?? item).sort((one, other) => other.time - one.time);
  if (selected.value && !items.value.includes(selected.value)) selected.value = undefined;
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
  for (const item of made) unkept.add(item.id);
  items.value = [...made, ...items.value];
  selected.value ??= made[0];
  for (const item of made) if (await write((kept) => kept.put(item))) unkept.delete(item.id);
}

/** Forget an item here; the server keeps its own until it expires. */
export async function remove(item: Item): Promise<void> {
  const index = items.value.indexOf(item);
  unkept.delete(item.id);
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

/** Returns whether the browser has made the change. */
async function write(change: (kept: IDBObjectStore) => IDBRequest): Promise<boolean> {
  try {
    if (!database) return false;
    const kept = store("readwrite");
    change(kept);
    await committed(kept.transaction);
    changes.postMessage(undefined);
    return true;
  } catch (error) {
    notKept.value = `It could not be kept in this browser: ${error}`;
    return false;
  }
}

/** A request that succeeded is not kept before its transaction is: a browser without space says so only there. */
function committed(transaction: IDBTransaction): Promise<void> {
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve();
    transaction.onabort = () => reject(transaction.error);
  });
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
