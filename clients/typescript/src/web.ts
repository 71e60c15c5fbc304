/** The client in browsers: Connect over the server's HTTP port. */
import { toBinary, create } from "@bufbuild/protobuf";
import type { Interceptor } from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-web";
import { Client } from "./client.js";
import { type Artifact, GenerationService, UploadArtifactRequestSchema, UploadArtifactResponseSchema } from "./contract.js";
import { fromBinary } from "@bufbuild/protobuf";

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

/** Stores a file from a browser, which cannot stream a request: the messages go as one body. */
export async function upload(file: Blob, { address = "", token }: Connection = {}): Promise<Artifact> {
  const header = create(UploadArtifactRequestSchema, {
    part: { case: "header", value: { mediaType: file.type, size: BigInt(file.size) } },
  });
  const body: BlobPart[] = envelope(toBinary(UploadArtifactRequestSchema, header));
  for (let start = 0; start < file.size; start += 512 * 1024) {
    const value = new Uint8Array(await file.slice(start, start + 512 * 1024).arrayBuffer());
    const chunk = create(UploadArtifactRequestSchema, { part: { case: "chunk", value } });
    body.push(...envelope(toBinary(UploadArtifactRequestSchema, chunk)));
  }
  const answer = await fetch(`${address}/${GenerationService.typeName}/UploadArtifact`, {
    method: "POST",
    headers: {
      "content-type": "application/connect+proto",
      ...(token !== undefined && { authorization: `Bearer ${token}` }),
    },
    body: new Blob(body),
  });
  if (!answer.ok) throw new Error(await answer.text());
  const data = new Uint8Array(await answer.arrayBuffer());
  const length = new DataView(data.buffer).getUint32(1);
  const first = data.subarray(5, 5 + length);
  if (data[0] !== 0) throw new Error(new TextDecoder().decode(first));
  return fromBinary(UploadArtifactResponseSchema, first).artifact!;
}

/** A message of a stream, with the five bytes before it. */
function envelope(message: Uint8Array): BlobPart[] {
  const head = new Uint8Array(5);
  new DataView(head.buffer).setUint32(1, message.length);
  return [head, message as Uint8Array<ArrayBuffer>];
}
