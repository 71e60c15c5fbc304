/** The server that the page came from: the caller's key, its client, and what its engines can do. */
import { computed, effect, signal } from "@preact/signals";
import type { Engine, GetCapabilitiesResponse } from "@atelier/client/contract";
import { EngineState } from "@atelier/client/contract";
import { AtelierError, connect, upload } from "@atelier/client/web";

const KEY = "atelier-token";
const LOADING_MS = 2_000;
const READY_MS = 15_000;
const UNAUTHENTICATED = 16;

/** An API key or a token; kept as long as the tab is open. Empty for none. */
export const token = signal(sessionStorage.getItem(KEY) ?? "");
/** Engines and limits; undefined until the server has answered. */
export const capabilities = signal<GetCapabilitiesResponse>();
/** Why the server does not answer; undefined while it does. */
export const trouble = signal<AtelierError>();
/** Whether the server wants a key, or another one. */
export const wantsToken = computed(() => trouble.value?.code === UNAUTHENTICATED);

const connection = computed(() => (token.value ? { token: token.value } : {}));
/** Calls of the service. */
export const client = computed(() => connect(connection.value));

effect(() => {
  if (token.value) sessionStorage.setItem(KEY, token.value);
  else sessionStorage.removeItem(KEY);
});

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
