/** The client in browsers: Connect over the server's HTTP port. */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Code, ConnectError, type Interceptor } from "@connectrpc/connect";
import { endStreamFromJson, errorFromJsonBytes } from "@connectrpc/connect/protocol-connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { AtelierError, Client, type Options } from "./client.js";
import { type Artifact, GenerationService, UploadArtifactRequestSchema, UploadArtifactResponseSchema } from "./contract.js";

export { AtelierError, Client, type Options, type Request } from "./client.js";

/** How to reach a server. */
export interface Connection {
  /** Where its HTTP port is; that of the page by default. */
  address?: string;
  /** An API key or a token. */
  token?: string;
}

/**
 * A client for this server. Over HTTP/1.1 a browser opens six connections to a server, and each open stream takes one:
 * keep at most four open.
 */
export function connect({ address = "", token }: Connection = {}): Client {
  const authorize: Interceptor = (next) => (request) => {
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  return new Client(createConnectTransport({ baseUrl: address, interceptors: [authorize], useBinaryFormat: true }));
}

/**
 * Stores a file from a browser, which cannot stream a request: the messages go as one body.
 *
 * @throws {AtelierError} the file was rejected, or the call has failed.
 */
export async function upload(file: Blob, { address = "", token }: Connection = {}, options?: Options): Promise<Artifact> {
  const ends = options?.timeoutMs === undefined ? [] : [AbortSignal.timeout(options.timeoutMs)];
  const signal = AbortSignal.any([...(options?.signal ? [options.signal] : []), ...ends]);
  const headers = new Headers({ "content-type": "application/connect+proto" });
  try {
    if (token !== undefined) headers.set("authorization", `Bearer ${token}`);
    const body = await toBody(file);
    const answer = await fetch(`${address}/${GenerationService.typeName}/UploadArtifact`, { method: "POST", headers, body, signal });
    return readArtifact(answer, new Uint8Array(await answer.arrayBuffer()));
  } catch (thrown) {
    if (ends.some(({ aborted }) => aborted)) throw AtelierError.from(new ConnectError("the timeout has passed", Code.DeadlineExceeded));
    throw AtelierError.from(thrown);
  }
}

async function toBody(file: Blob): Promise<Blob> {
  const header = create(UploadArtifactRequestSchema, {
    part: { case: "header", value: { mediaType: file.type, size: BigInt(file.size) } },
  });
  const body: BlobPart[] = envelope(toBinary(UploadArtifactRequestSchema, header));
  for (let start = 0; start < file.size; start += 512 * 1024) {
    const value = new Uint8Array(await file.slice(start, start + 512 * 1024).arrayBuffer());
    const chunk = create(UploadArtifactRequestSchema, { part: { case: "chunk", value } });
    body.push(...envelope(toBinary(UploadArtifactRequestSchema, chunk)));
  }
  return new Blob(body);
}

/** The artifact of an answer: one message, and after it the end of the stream, which has the error if there is one. */
function readArtifact(answer: Response, data: Uint8Array): Artifact {
  if (!answer.headers.get("content-type")?.startsWith("application/connect+proto")) {
    // Of the server where it is JSON, otherwise of a proxy.
    const unknown = new ConnectError(`HTTP ${answer.status}`, answer.status >= 502 ? Code.Unavailable : Code.Unknown);
    throw errorFromJsonBytes(data, answer.headers, unknown);
  }
  let artifact: Artifact | undefined;
  for (let rest = data; rest.length >= 5; ) {
    const end = 5 + new DataView(rest.buffer, rest.byteOffset).getUint32(1);
    const message = rest.subarray(5, end);
    if (rest[0] === 0) artifact = fromBinary(UploadArtifactResponseSchema, message).artifact;
    else {
      const { error } = endStreamFromJson(message);
      if (error) throw error;
    }
    rest = rest.subarray(end);
  }
  if (!artifact) throw new ConnectError("the answer ended without an artifact", Code.Unavailable);
  return artifact;
}

/** A message of a stream, with the five bytes before it. */
function envelope(message: Uint8Array): BlobPart[] {
  const head = new Uint8Array(5);
  new DataView(head.buffer).setUint32(1, message.length);
  return [head, message as Uint8Array<ArrayBuffer>];
}
