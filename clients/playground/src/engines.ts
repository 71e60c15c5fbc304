/** What an engine can do, in the terms of the form: what it cannot do is not offered. */
import {
  AudioFeature,
  type AudioCapabilities,
  type Engine,
  EngineState,
  ImageFeature,
  type ImageCapabilities,
  type IntegerRange,
} from "@atelier/client/contract";

export type Kind = "image" | "audio";

export function isReady(engine: Engine): boolean {
  return engine.state === EngineState.READY;
}

export function makes(engine: Engine, kind: Kind): boolean {
  return (kind === "image" ? engine.image : engine.audio) !== undefined;
}

export function has(capabilities: ImageCapabilities | undefined, feature: ImageFeature): boolean {
  return capabilities?.features.includes(feature) ?? false;
}

export function hasAudio(capabilities: AudioCapabilities | undefined, feature: AudioFeature): boolean {
  return [...(capabilities?.features ?? []), ...(capabilities?.serverFeatures ?? [])].includes(feature);
}

/** Whether the caller has a choice within the range. */
export function isChoice(range: IntegerRange | undefined): range is IntegerRange {
  return range !== undefined && range.min < range.max;
}

/** Aspect ratios that both a width and a height in the ranges allow. */
export function shapes({ width, height }: ImageCapabilities): string[] {
  if (!isChoice(width) || !isChoice(height)) return [];
  return ["1:1", "4:3", "3:4", "3:2", "2:3", "16:9", "9:16"];
}

/** Steps between two previews: about eight in all where the engine has no number of its own; 0 for none. */
export function previewInterval(steps: number, own: number): number {
  return own || Math.max(1, Math.round(steps / 8));
}

export { AudioFeature, ImageFeature };
