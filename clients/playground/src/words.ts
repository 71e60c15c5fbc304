/** Values of the contract in words. */
import { durationMs, type Duration } from "@bufbuild/protobuf/wkt";
import { toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import {
  ControlType,
  type Cost,
  Disposition,
  type Parameter,
  type StreamProgressResponse,
} from "@atelier/client/contract";

/** Seconds, or minutes of more than one. */
export function sayDuration(duration: Duration | undefined): string {
  return duration ? saySeconds(durationMs(duration) / 1000) : "";
}

export function saySeconds(seconds: number): string {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}

export function sayCost(cost: Cost | undefined): string {
  if (!cost) return "free";
  const digits = cost.amount < 0.1 ? 4 : 2;
  return new Intl.NumberFormat("en", {
    style: "currency",
    currency: cost.currency,
    maximumFractionDigits: digits,
  }).format(cost.amount);
}

export function sayCount(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}

export const CONTROL_NAMES: Record<ControlType, string> = {
  [ControlType.UNSPECIFIED]: "",
  [ControlType.CANNY]: "Edges (Canny)",
  [ControlType.DEPTH]: "Depth",
  [ControlType.POSE]: "Pose",
  [ControlType.SEGMENTATION]: "Segmentation",
};

export const DISPOSITION_NAMES: Record<Disposition, string> = {
  [Disposition.UNSPECIFIED]: "",
  [Disposition.APPLIED]: "as asked",
  [Disposition.DEFAULTED]: "default",
  [Disposition.CLAMPED]: "changed",
  [Disposition.EMULATED]: "emulated",
  [Disposition.IGNORED]: "ignored",
};

/** The value of a parameter; empty if it has none. */
export function sayValue(value: Parameter["value"]): string {
  if (!value) return "";
  const json = toJson(ValueSchema, value);
  return typeof json === "string" ? json : JSON.stringify(json);
}

/** What a running generation does, in one line. */
export function sayProgress(event: StreamProgressResponse | undefined): string {
  if (!event) return "Sending …";
  if (event.attempt === 0) {
    const ahead = event.queuePosition;
    if (ahead === undefined) return "Waiting …";
    return ahead === 0 ? "Next in the queue" : `Waiting behind ${sayCount(ahead, "other")}`;
  }
  const stage = event.stage ? event.stage[0]!.toUpperCase() + event.stage.slice(1).replaceAll("_", " ") : "Running";
  return event.steps > 0 ? `${stage}, step ${event.step} of ${event.steps}` : `${stage} …`;
}
