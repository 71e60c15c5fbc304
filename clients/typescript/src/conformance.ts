/**
 * Runs the cases of `clients/conformance` with this client: `node dist/conformance.js FILE [PROTOCOL]`.
 *
 * FILE is JSON with `servers` and `cases`. Each case ends with one line of JSON on standard output: its name, and what
 * was wrong, which is empty if nothing was.
 */
import { readFile } from "node:fs/promises";
import { fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { Code, type Interceptor } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { GenerateRequestSchema, GenerationSchema, GenerationService, State } from "./contract.js";
import { AtelierError, Client, connect } from "./node.js";

interface Case {
  name: string;
  call: string;
  server?: string;
  token?: string;
  timeout_ms?: number;
  request?: JsonObject;
  size?: number;
  media_type?: string;
  expect?: JsonObject;
  error?: { code: string; reason?: string; fields?: JsonObject };
}

type Outcome = Record<string, JsonValue>;

/** What was wrong; empty if nothing was. */
async function run(client: Client, one: Case): Promise<string> {
  try {
    const outcome = await CALLS[one.call]!(client, one);
    if (one.error) return `succeeded with ${JSON.stringify(outcome)}`;
    return differ(one.expect ?? {}, outcome, "");
  } catch (thrown) {
    const error = AtelierError.from(thrown);
    if (!one.error) return `failed: ${error.stack}`;
    const found = { code: nameOf(error.code), reason: error.reason, fields: [...error.fields.keys()] };
    return differ(one.error, found, "error");
  }
}

const CALLS: Record<string, (client: Client, one: Case) => Promise<Outcome>> = {
  async generate(client, one) {
    const generation = await client.generate(read(one), limit(one));
    const inline = generation.outputs.reduce((total, output) => total + output.data.length, 0);
    return { ...(toJson(GenerationSchema, generation) as JsonObject), inlineBytes: inline };
  },
  async stream(client, one) {
    const sequences: number[] = [];
    let last = "";
    for await (const event of client.stream(read(one), limit(one))) {
      sequences.push(event.sequence);
      if (event.generation) last = (toJson(GenerationSchema, event.generation) as JsonObject)["state"] as string;
    }
    return { state: last, consecutive: sequences.every((sequence, index) => sequence === index + 1) };
  },
  async attach(client, one) {
    const { generation } = await client.stub.generate(read(one));
    await client.generate({ ...read(one), requestId: generation!.requestId });
    const sequences: number[] = [];
    for await (const event of client.attach(generation!.id, 2)) sequences.push(event.sequence);
    return { first: sequences[0] ?? 0, consecutive: sequences.every((one, index) => one === index + 3) };
  },
  async cancel(client, one) {
    let id = "";
    for await (const event of client.stream(read(one))) {
      id = event.generationId;
      if (event.state === State.RUNNING) break;
    }
    for (;;) {
      const { generation } = await client.stub.getGeneration({ generationId: id });
      const found = toJson(GenerationSchema, generation!) as JsonObject;
      if (found["endTime"]) return found;
    }
  },
  async cancelled(client, one) {
    for await (const event of client.stream(read(one)))
      if (event.state === State.RUNNING) await client.cancel(event.generationId);
    return toJson(GenerationSchema, await client.generate(read(one))) as JsonObject;
  },
  async download(client, one) {
    return { size: (await client.download(one.request!["artifactId"] as string)).length };
  },
  async transfer(client, one) {
    const data = new Uint8Array(one.size!).map((_, index) => (index * 31 + (index >> 8)) % 251);
    const artifact = await client.upload(data, one.media_type!);
    const back = await client.download(artifact.id);
    return { size: Number(artifact.size), same: Buffer.compare(data, back) === 0 };
  },
  async get(client, one) {
    const method = GenerationService.method.getGeneration;
    const answer = await client.stub.getGeneration(fromJson(method.input, one.request!));
    return toJson(method.output, answer) as JsonObject;
  },
  async plan(client, one) {
    const method = GenerationService.method.planGeneration;
    const answer = await client.stub.planGeneration(fromJson(method.input, one.request!));
    return toJson(method.output, answer) as JsonObject;
  },
  async health(client) {
    return toJson(GenerationService.method.health.output, await client.stub.health({})) as JsonObject;
  },
};

function read(one: Case) {
  return fromJson(GenerateRequestSchema, one.request!);
}

function limit(one: Case) {
  return one.timeout_ms === undefined ? undefined : { timeoutMs: one.timeout_ms };
}

interface Server {
  address: string;
  http: string;
  token?: string;
  ca?: string;
}

/** A client that speaks gRPC, or the protocol of the second argument: connect+json, connect+proto or grpc-web. */
function reach({ address, http, ca, ...server }: Server, one: Case): Client {
  const token = one.token ?? server.token ?? "";
  const protocol = process.argv[3];
  const trust = ca === undefined ? {} : { ca };
  if (protocol === undefined) return connect({ address, token, reconnectMs: RECONNECT_MS, ...trust });
  const authorize: Interceptor = (next) => (request) => {
    if (token) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const options = { baseUrl: http, httpVersion: "1.1" as const, interceptors: [authorize], nodeOptions: trust };
  const transport =
    protocol === "grpc-web"
      ? createGrpcWebTransport(options)
      : createConnectTransport({ ...options, useBinaryFormat: protocol === "connect+proto" });
  return new Client(transport, RECONNECT_MS);
}

/** A server that stops is back when a busy machine has started it. */
const RECONNECT_MS = 300_000;

/** The code by gRPC's name. */
function nameOf(code: Code): string {
  if (code === Code.Canceled) return "CANCELLED";
  return Code[code].replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
}

/** Where what was found is not what was expected, which may name less; empty if nowhere. */
function differ(expected: unknown, found: unknown, path: string): string {
  if (typeof expected === "object" && expected !== null) {
    for (const [key, value] of Object.entries(expected)) {
      const wrong = differ(value, (found as Record<string, unknown> | undefined)?.[key], `${path}.${key}`);
      if (wrong) return wrong;
    }
    return "";
  }
  return expected === found ? "" : `${path} is ${JSON.stringify(found)}, not ${JSON.stringify(expected)}`;
}

const { servers, cases } = JSON.parse(await readFile(process.argv[2]!, "utf8"));
for (const one of cases as Case[]) {
  const client = reach(servers[one.server ?? "plain"], one);
  console.log(JSON.stringify({ name: one.name, wrong: await run(client, one) }));
}
process.exit(); // connections would stay open
