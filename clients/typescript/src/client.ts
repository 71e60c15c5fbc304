/**
 * A client of Atelier for Node and browsers: a thin layer over the stubs of the contract.
 *
 * `connect` of `@atelier/client/node` or `@atelier/client/web` makes one.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type CallOptions, type Client as Stub, Code, ConnectError, createClient, type Transport } from "@connectrpc/connect";
import {
  type Artifact,
  type GenerateRequest,
  type Generation,
  GenerationService,
  GenerateRequestSchema,
  State,
  type StreamProgressResponse,
} from "./contract.js";
import { AtelierError } from "./errors.js";

export { AtelierError } from "./errors.js";

/** A request for a generation: any part of the message. */
export type Request = MessageInitShape<typeof GenerateRequestSchema>;

/** What a call may be given. */
export interface Options {
  /** Cancels the call, and with it what it waits for. */
  signal?: AbortSignal;
  /** Milliseconds after which the call ends with DEADLINE_EXCEEDED. */
  timeoutMs?: number;
}

const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 3_000;
/** While the server has never answered, a wrong address is told soon. */
const FIRST_ANSWER_MS = 2_000;
const CHUNK_BYTES = 512 * 1024;

/** A connection to a server; safe to use for many calls at once. */
export class Client {
  /** The calls of the contract, as generated: for what this layer has no method for. */
  readonly stub: Stub<typeof GenerationService>;
  readonly #closed = new AbortController();

  /** `reconnectMs` is how long a lost stream or download is tried again, from the first failure after the last answer. */
  constructor(
    transport: Transport,
    private readonly reconnectMs: number = 30_000,
    private readonly disconnect: () => void = () => {},
  ) {
    this.stub = createClient(GenerationService, transport);
  }

  /** Ends the connection and all calls on it, which a program must do that wants to end; a later call fails. */
  close(): void {
    this.#closed.abort(new ConnectError("the client is closed", Code.Canceled));
    this.disconnect();
  }

  /**
   * Runs a task to its end and returns the generation, which has succeeded.
   *
   * @throws {AtelierError} it was rejected, has failed or was cancelled; see `generationId`.
   */
  async generate(request: Request, options?: Options): Promise<Generation> {
    let last: StreamProgressResponse | undefined;
    for await (const event of this.stream(request, options)) last = event;
    const generation = last?.generation;
    if (!generation) throw AtelierError.from(new Error("the stream ended without an outcome"));
    if (generation.failure) {
      const { code, message, reason } = generation.failure;
      throw new AtelierError(message, code, reason, new Map(), undefined, generation.id);
    }
    if (generation.state === State.CANCELLED)
      throw new AtelierError("the generation was cancelled", Code.Canceled, "CANCELLED", new Map(), undefined, generation.id);
    return generation;
  }

  /**
   * Starts a task and yields its events to the last, which has the generation. After a lost connection it goes on from
   * the last event: none comes twice. Leaving the loop early cancels the task.
   *
   * @throws {AtelierError} the task was rejected. One that fails ends with an event that has the failure.
   */
  stream(request: Request, options?: Options): AsyncGenerator<StreamProgressResponse> {
    const generate = create(GenerateRequestSchema, request);
    generate.requestId ||= newId();
    const target = { case: "generate", value: generate } as const;
    return this.#follow({ target, afterSequence: 0 }, generate.inlineOutputs, options);
  }

  /** Follows a generation from the event after `afterSequence` on; as `stream`, but leaving it early cancels nothing. */
  attach(generationId: string, afterSequence = 0, options?: Options): AsyncGenerator<StreamProgressResponse> {
    return this.#follow({ target: { case: "generationId", value: generationId }, afterSequence }, false, options);
  }

  async *#follow(
    start: { target: Target; afterSequence: number },
    inlineOutputs: boolean,
    options?: Options,
  ): AsyncGenerator<StreamProgressResponse> {
    const end = toEnd(options);
    let { afterSequence } = start;
    const reach = new Reachability(this.reconnectMs, end);
    for (;;) {
      const leaving = new AbortController(); // a stream that is left is not ended by the library
      const signal = this.#join(options, leaving.signal);
      try {
        const request = { target: start.target, afterSequence, inlineOutputs };
        for await (const event of this.stub.streamProgress(request, toCallOptions({ ...options, signal }, end))) {
          reach.answered();
          if (event.sequence <= afterSequence) continue; // sent again to keep the connection open
          afterSequence = event.sequence;
          yield event;
        }
        return;
      } catch (thrown) {
        const error = AtelierError.from(thrown, "generate.");
        if (signal.aborted) throw error;
        await sleep(reach.delayAfter(error), signal);
      } finally {
        leaving.abort();
      }
    }
  }

  /** Stops a generation; the answer says what was really stopped. */
  async cancel(generationId: string, options?: Options) {
    return this.#call(() => this.stub.cancelGeneration({ generationId }, this.#callOptions(options)));
  }

  /**
   * Stores a file and returns its artifact. Needs a transport that streams requests; browsers use `upload` of
   * `@atelier/client/web`.
   */
  async upload(data: Uint8Array, mediaType: string, options?: Options): Promise<Artifact> {
    const header = { mediaType, size: BigInt(data.length), sha256: await sha256(data) };
    async function* parts() {
      yield { part: { case: "header", value: header } } as const;
      for (let start = 0; start < data.length; start += CHUNK_BYTES)
        yield { part: { case: "chunk", value: data.subarray(start, start + CHUNK_BYTES) } } as const;
    }
    const { artifact } = await this.#call(() => this.stub.uploadArtifact(parts(), this.#callOptions(options)));
    return artifact!;
  }

  /**
   * The bytes of an artifact; goes on where a lost connection has ended.
   *
   * @throws {AtelierError} there is no such artifact, or its bytes are not those that its SHA-256 says (DataLoss).
   */
  async download(artifactId: string, options?: Options): Promise<Uint8Array> {
    const chunks: Uint8Array[] = [];
    let artifact: Artifact | undefined;
    let offset = 0n;
    const [end, signal] = [toEnd(options), this.#join(options)];
    const reach = new Reachability(this.reconnectMs, end);
    for (;;) {
      try {
        const calling = toCallOptions({ ...options, signal }, end);
        for await (const { part } of this.stub.downloadArtifact({ artifactId, offset }, calling)) {
          reach.answered();
          if (part.case === "artifact") artifact = part.value;
          else if (part.case === "chunk") {
            chunks.push(part.value);
            offset += BigInt(part.value.length);
          }
        }
        break;
      } catch (thrown) {
        const error = AtelierError.from(thrown);
        if (signal.aborted) throw error;
        await sleep(reach.delayAfter(error), signal);
      }
    }
    const data = join(chunks);
    if (artifact && (await sha256(data)) !== artifact.sha256)
      throw AtelierError.from(new ConnectError(`the bytes of artifact ${artifactId} are damaged`, Code.DataLoss));
    return data;
  }

  #callOptions(options?: Options): CallOptions {
    return toCallOptions({ ...options, signal: this.#join(options) });
  }

  /** Aborts with the caller, with the client, and with `more`. */
  #join(options?: Options, ...more: AbortSignal[]): AbortSignal {
    return AbortSignal.any([this.#closed.signal, ...(options?.signal ? [options.signal] : []), ...more]);
  }

  async #call<T>(send: () => Promise<T>): Promise<T> {
    try {
      return await send();
    } catch (thrown) {
      throw AtelierError.from(thrown);
    }
  }
}

/** Decides when a lost call is made again, and when to give up. */
class Reachability {
  #reached = false;
  #failures = 0;
  #since: number | undefined;

  /** `end` is the time at which the call ends anyway. */
  constructor(
    private readonly timeoutMs: number,
    private readonly end = Infinity,
  ) {}

  answered() {
    this.#reached = true;
    this.#failures = 0;
    this.#since = undefined;
  }

  /** The time to wait before the next attempt; the error itself is thrown if none helps, or the time is over. */
  delayAfter(error: AtelierError): number {
    const now = Date.now();
    this.#since ??= now;
    this.#reached ||= error.reason !== "";
    const timeout = this.#reached ? this.timeoutMs : Math.min(this.timeoutMs, FIRST_ANSWER_MS);
    const left = this.#since + timeout - now;
    if (!error.isLost || left <= 0) throw error;
    const doubled = Math.min(FIRST_DELAY_MS * 2 ** this.#failures++, MAX_DELAY_MS);
    return Math.min(error.retryAfterMs ?? doubled * (0.5 + Math.random() / 2), left, Math.max(0, this.end - now));
  }
}

/** `crypto.randomUUID` is not there in pages without TLS at other addresses than localhost. */
function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

type Target =
  | { case: "generate"; value: GenerateRequest }
  | { case: "generationId"; value: string };

function toEnd(options: Options | undefined): number | undefined {
  return options?.timeoutMs === undefined ? undefined : Date.now() + options.timeoutMs;
}

function toCallOptions(options: Options | undefined, end?: number): CallOptions {
  const timeoutMs = end === undefined ? options?.timeoutMs : Math.max(1, end - Date.now());
  return {
    ...(options?.signal && { signal: options.signal }),
    ...(timeoutMs !== undefined && { timeoutMs }),
  };
}

function join(chunks: Uint8Array[]): Uint8Array {
  const data = new Uint8Array(chunks.reduce((total, chunk) => total + chunk.length, 0));
  let start = 0;
  for (const chunk of chunks) {
    data.set(chunk, start);
    start += chunk.length;
  }
  return data;
}

async function sha256(data: Uint8Array): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data as Uint8Array<ArrayBuffer>));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => (clearTimeout(timer), signal.removeEventListener("abort", end), resolve());
    const timer = setTimeout(end, milliseconds);
    signal.addEventListener("abort", end);
  });
}
