/** The client in Node: gRPC over HTTP/2. */
import type { Interceptor } from "@connectrpc/connect";
import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";
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
  if (!/^https?:\/\/[^/?#@]+\/?$/.test(address))
    throw new TypeError(`the address ${address} is not http://HOST:PORT or https://HOST:PORT`);
  const sessionManager = new Http2SessionManager(address, { pingIntervalMs: 20_000 }, ca === undefined ? {} : { ca });
  const transport = createGrpcTransport({ baseUrl: address, interceptors: [authorize], sessionManager });
  return new Client(transport, reconnectMs, () => sessionManager.abort());
}
