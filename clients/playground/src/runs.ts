/** Generations that this page waits for. */
import { signal, type Signal } from "@preact/signals";
import {
  CancelOutcome,
  type Engine,
  type Generation,
  State,
  type StreamProgressResponse,
} from "@atelier/client/contract";
import { AtelierError } from "@atelier/client/web";
import { type Draft, toRequest } from "./draft";
import { report } from "./form";
import { keep, selected } from "./gallery";
import { client } from "./server";

/** Over HTTP/1.1 a browser opens six connections to a server, and each run takes one. */
const MAX_RUNS = 4;

/** One generation from its request to its end. */
export interface Run {
  draft: Draft;
  engine: Engine;
  event: Signal<StreamProgressResponse | undefined>;
  /** URL of the newest preview; empty before the first. */
  preview: Signal<string>;
  leaving: AbortController;
}

/** Newest first. */
export const runs = signal<readonly Run[]>([]);
/** How the newest run has ended, where that is no output. */
export const outcome = signal("");

export function isFull(): boolean {
  return runs.value.length >= MAX_RUNS;
}

/**
 * Send the draft, follow it to its end, and keep what it has made.
 *
 * Returns whether the server has taken it; what is wrong is shown at the form.
 */
export async function start(draft: Draft, engine: Engine): Promise<boolean> {
  const run: Run = { draft, engine, event: signal(undefined), preview: signal(""), leaving: new AbortController() };
  runs.value = [run, ...runs.value];
  selected.value = undefined;
  outcome.value = "";
  try {
    for await (const event of client.value.stream(toRequest(draft, engine), { signal: run.leaving.signal })) {
      if (!event.repetition) run.event.value = event;
      if (event.preview)
        show(run, new Blob([event.preview.data as Uint8Array<ArrayBuffer>], { type: event.preview.mediaType }));
      if (event.generation) await end(draft, event.generation);
    }
  } catch (thrown) {
    if (run.leaving.signal.aborted) return true;
    report(AtelierError.from(thrown));
    return false;
  } finally {
    runs.value = runs.value.filter((each) => each !== run);
    URL.revokeObjectURL(run.preview.value);
  }
  return true;
}

/** Stop a run; what was really stopped is told by its end. */
export async function cancel(run: Run): Promise<void> {
  const id = run.event.value?.generationId;
  if (id === undefined) {
    run.leaving.abort();
    outcome.value = "Cancelled.";
    return;
  }
  try {
    await client.value.cancel(id);
  } catch (thrown) {
    outcome.value = AtelierError.from(thrown).message;
  }
}

function show(run: Run, preview: Blob): void {
  URL.revokeObjectURL(run.preview.value);
  run.preview.value = URL.createObjectURL(preview);
}

async function end(draft: Draft, generation: Generation): Promise<void> {
  if (generation.state === State.SUCCEEDED) {
    await keep(draft, generation, await Promise.all(generation.outputs.map(fetchFile)));
  } else if (generation.state === State.CANCELLED) {
    outcome.value = sayCancelled(generation);
  } else if (generation.failure) {
    outcome.value = generation.failure.message;
  }
}

/** The bytes of an output: inline, or downloaded where they are too large for that. */
async function fetchFile(output: Generation["outputs"][number]): Promise<Blob> {
  const { id, mediaType } = output.artifact!;
  const data = output.data.length > 0 ? output.data : await client.value.download(id);
  return new Blob([data as Uint8Array<ArrayBuffer>], { type: mediaType });
}

function sayCancelled({ cancelOutcome, stoppedAtStep }: Generation): string {
  if (cancelOutcome === CancelOutcome.NEVER_STARTED) return "Cancelled before it began.";
  if (cancelOutcome === CancelOutcome.VENDOR_MAY_BILL)
    return "Cancelled here; the remote service may finish and bill it.";
  return stoppedAtStep ? `Cancelled at step ${stoppedAtStep}.` : "Cancelled.";
}
