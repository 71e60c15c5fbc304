import { Code, ConnectError } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { BadRequestSchema, ErrorInfoSchema, RetryInfoSchema } from "./gen/google/rpc/error_details_pb.js";

/** What a call failed with, read from the status and its google.rpc details. */
export class AtelierError extends Error {
  override readonly name = "AtelierError";

  constructor(
    message: string,
    /** The code of gRPC. */
    readonly code: Code,
    /** The reason, such as INVALID_REQUEST; empty where a library or a proxy has answered, not the server. */
    readonly reason: string,
    /** Descriptions of wrong fields, by their paths in the request. */
    readonly fields: ReadonlyMap<string, string>,
    /** Milliseconds after which the same request may succeed; undefined if it will not. */
    readonly retryAfterMs: number | undefined,
    /** The generation that the call had begun or followed; empty if there is none. */
    readonly generationId: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }

  /** Whether the connection was lost, or the server said so: whoever has a request id can attach again. */
  get isLost(): boolean {
    return this.reason === "DRAINING" || (this.reason === "" && LOST.has(this.code));
  }

  /** The error for whatever a call threw; `prefix` is left out of the paths of its fields. */
  static from(thrown: unknown, prefix = ""): AtelierError {
    if (thrown instanceof AtelierError) return thrown;
    const error = ConnectError.from(thrown);
    const [info] = error.findDetails(ErrorInfoSchema);
    const [bad] = error.findDetails(BadRequestSchema);
    const [retry] = error.findDetails(RetryInfoSchema);
    return new AtelierError(
      error.rawMessage,
      isUntrusted(error.cause) ? Code.Unavailable : error.code,
      info?.domain === "atelier" ? info.reason : "",
      new Map(bad?.fieldViolations.map((one) => [withoutPrefix(one.field, prefix), one.description])),
      retry?.retryDelay && durationMs(retry.retryDelay),
      info?.metadata["generation_id"] ?? "",
      { cause: thrown },
    );
  }
}

/** What libraries and proxies make of a lost connection; Canceled is Node's, for a stream that was reset. */
const LOST = new Set([Code.Unavailable, Code.Internal, Code.Unknown, Code.Aborted, Code.Canceled]);

/** Whether Node does not trust the server's certificate; Connect says Internal then, and other libraries Unavailable. */
function isUntrusted(cause: unknown): boolean {
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return /^(CERT_|ERR_TLS_CERT_|(DEPTH_ZERO_)?SELF_SIGNED_CERT|UNABLE_TO_(GET_ISSUER_CERT|VERIFY))/.test(code);
}

function withoutPrefix(path: string, prefix: string): string {
  return path.startsWith(prefix) ? path.slice(prefix.length) : path;
}
