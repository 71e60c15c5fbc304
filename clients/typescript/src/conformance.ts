/**
 * Runs the cases of `clients/conformance` with this client: `node dist/conformance.js FILE`.
 *
 * FILE is JSON with `servers` and `cases`. Each case ends with one line of JSON on standard output: its name, and what
 * was wrong, which is empty if nothing was.
 */
import { readFile } from "node:fs/promises";
import { fromJson, type JsonObject, type JsonValue, toJson } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { GenerateRequestSchema, GenerationSchema, GenerationService } from "./contract.js";
import { AtelierError, type Client, connect } from "./node.js";

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
      if (event.state === 2) break; // it runs
    }
    for (;;) {
      const { generation } = await client.stub.getGeneration({ generationId: id });
      const found = toJson(GenerationSchema, generation!) as JsonObject;
      if (found["endTime"]) return found;
    }
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
  const { ca, token, address } = servers[one.server ?? "plain"];
  const client = connect({ address, ca, token: one.token ?? token });
  console.log(JSON.stringify({ name: one.name, wrong: await run(client, one) }));
}
process.exit(); // connections would stay open
