/** The server that the page came from: the caller's key, its client, and what its engines can do. */
import { computed, effect, signal } from "@preact/signals";
import type { Engine, GetCapabilitiesResponse } from "@atelier/client/contract";
import { EngineState } from "@atelier/client/contract";
import { AtelierError, connect, upload } from "@atelier/client/web";
import { readKept, writeKept } from "./kept";

const KEY = "atelier-token";
const LOADING_MS = 2_000;
const READY_MS = 15_000;
const UNAUTHENTICATED = 16;

/** An API key or a token; kept as long as the tab is open. Empty for none. */
export const token = signal(readKept("sessionStorage", KEY) ?? "");
/** Engines and limits; undefined until the server has answered. */
export const capabilities = signal<GetCapabilitiesResponse>();
/** Why the server does not answer; undefined while it does. */
export const trouble = signal<AtelierError>();
/** Whether the server wants a key, or another one. */
export const wantsToken = computed(() => trouble.value?.code === UNAUTHENTICATED);

/** Where the page is, which may be below a path of a proxy. */
const ADDRESS = new URL(".", location.href).href.replace(/\/$/, "");
const connection = computed(() => ({ address: ADDRESS, ...(token.value && { token: token.value }) }));
/** Calls of the service. */
export const client = computed(() => connect(connection.value));

effect(() => writeKept("sessionStorage", KEY, token.value));

/** Stores a file on the server, and returns the id of its artifact. */
export async function store(file: Blob): Promise<string> {
  return (await upload(file, connection.value)).id;
}

/** Asks for the capabilities now and from time to time, more often while engines load. */
export function watchServer(): void {
  let timer = 0;
  effect(() => {
    const current = client.value; // asks again when the token changes
    const ask = async () => {
      clearTimeout(timer);
      try {
        const answer = await current.stub.getCapabilities({});
        if (current === client.peek()) [capabilities.value, trouble.value] = [answer, undefined];
      } catch (thrown) {
        if (current === client.peek()) trouble.value = AtelierError.from(thrown);
      }
      const isReady = capabilities.peek()?.engines.every(isSettled) && !trouble.peek();
      if (current === client.peek()) timer = window.setTimeout(ask, isReady ? READY_MS : LOADING_MS);
    };
    void ask();
  });
}

function isSettled(engine: Engine): boolean {
  return engine.state === EngineState.READY;
}
