/** What was really done, in words: engine, time, cost, and each parameter as asked and as used. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import { Disposition, type Generation, type Parameter, Reproducibility } from "@atelier/client/contract";
import { DISPOSITION_NAMES, sayCost, saySeconds, sayValue } from "../words";

const REPRODUCIBLE: Record<Reproducibility, string> = {
  [Reproducibility.UNSPECIFIED]: "unknown",
  [Reproducibility.BIT_EXACT]: "to the byte, on this server",
  [Reproducibility.SAME_ENGINE]: "to the eye and ear, on the same engine",
  [Reproducibility.BEST_EFFORT]: "as far as the engine can",
};

export function Receipt({ generation, seed }: { generation: Generation; seed: string }) {
  const { receipt } = generation;
  if (!receipt) return null;
  const seconds = receipt.timings.map(
    ({ stage, duration }) => [stage, duration ? durationMs(duration) / 1000 : 0] as const,
  );
  const total = seconds.reduce((sum, [, each]) => sum + each, 0);
  const facts: [string, string][] = [
    ["Engine", `${generation.engine}${receipt.selection?.explanation ? ` (${receipt.selection.explanation})` : ""}`],
    ["Model", receipt.recipe?.model ?? ""],
    ["Seed", seed],
    ["Time", saySeconds(total)],
    ["Cost", receipt.cached ? "free: it was made before" : receipt.costExplanation || sayCost(receipt.cost)],
    ["Repeats", REPRODUCIBLE[receipt.reproducibility]],
    ["Attempts", receipt.attempts.length > 1 ? `${receipt.attempts.length}` : ""],
  ];
  return (
    <details class="receipt">
      <summary>Receipt</summary>
      <dl>
        {facts
          .filter(([, text]) => text !== "")
          .map(([name, text]) => (
            <div key={name}>
              <dt>{name}</dt>
              <dd>{text}</dd>
            </div>
          ))}
      </dl>
      <Timings seconds={seconds} total={total} />
      <Parameters parameters={receipt.parameters} />
    </details>
  );
}

function Timings({ seconds, total }: { seconds: (readonly [string, number])[]; total: number }) {
  if (total === 0) return null;
  return (
    <ul class="timings" aria-label="Time by stage">
      {seconds.map(([stage, each], index) => (
        <li key={index} style={{ flexGrow: Math.max(each / total, 0.02) }} title={`${stage}: ${saySeconds(each)}`}>
          {each / total > 0.12 && `${stage} ${saySeconds(each)}`}
        </li>
      ))}
    </ul>
  );
}

function Parameters({ parameters }: { parameters: Parameter[] }) {
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Parameters">
      <table>
        <thead>
          <tr>
            <th scope="col">Parameter</th>
            <th scope="col">Used</th>
            <th scope="col">Asked</th>
            <th scope="col">How</th>
          </tr>
        </thead>
        <tbody>
          {parameters.map((each) => (
            <tr key={each.name}>
              <th scope="row">{each.name.replaceAll("_", " ")}</th>
              <td>{sayValue(each.value)}</td>
              <td>{sayValue(each.requested)}</td>
              <td>
                <span class={`badge ${Disposition[each.disposition]?.toLowerCase()}`}>
                  {DISPOSITION_NAMES[each.disposition]}
                </span>{" "}
                {each.explanation !== "not given" && each.explanation}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
