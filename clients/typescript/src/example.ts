/** Draws a picture with a progress bar: `node dist/example.js "a red apple" apple.png [http://localhost:50051]`. */
import { writeFile } from "node:fs/promises";
import { connect } from "./node.js";

const [prompt = "a red apple", file = "apple.png", address = "http://localhost:50051"] = process.argv.slice(2);
const client = connect({ address });
for await (const event of client.stream({ task: { case: "image", value: { prompt } } })) {
  const done = Math.round(event.progress * 30);
  process.stderr.write(`\r[${"#".repeat(done)}${" ".repeat(30 - done)}] ${event.stage.padEnd(12)}`);
  if (event.generation?.failure) throw new Error(event.generation.failure.message);
  const artifact = event.generation?.outputs[0]?.artifact;
  if (artifact) await writeFile(file, await client.download(artifact.id));
}
process.stderr.write(`\n${file}\n`);
client.close(); // the open connection would keep the program running
