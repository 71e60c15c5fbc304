/** The client in Node: gRPC over HTTP/2. */
import type { Interceptor } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client } from "./client.js";

export { AtelierError, Client, type Options, type Request } from "./client.js";

/** How to reach a server. */
export interface Connection {
  /** http://HOST:PORT, or https://HOST:PORT for TLS. */
  address: string;
  /** An API key or a token. */
  token?: string;
  /** PEM of the authorities that may have signed the server's certificate; those of the system otherwise. */
  ca?: string | Buffer;
  /** How long a lost stream or download is tried again, in milliseconds; 30 s by default. */
  reconnectMs?: number;
}

/** A client for this server; it connects with its first call. The server allows a ping every 5 s: it sends one each 20. */
export function connect({ address, token, ca, reconnectMs }: Connection): Client {
  const authorize: Interceptor = (next) => (request) => {
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  return new Client(
    createGrpcTransport({
      baseUrl: address,
      interceptors: [authorize],
      pingIntervalMs: 20_000,
      ...(ca !== undefined && { nodeOptions: { ca } }),
    }),
    reconnectMs,
  );
}
