/** What a person has chosen in the form, and the request that says it. */
import { type ControlType, type Engine } from "@atelier/client/contract";
import type { Request } from "@atelier/client/web";
import { AudioFeature, has, hasAudio, ImageFeature, isChoice, type Kind, previewInterval } from "./engines";

/** An image that is stored on the server. */
export interface Source {
  artifactId: string;
  name: string;
  file: Blob;
}

export interface ControlChoice {
  /** Its own as long as it is in the form: others before it may be removed while its image is sent. */
  id: string;
  type: ControlType;
  source?: Source;
  preprocess: boolean;
  strength?: number;
}

export interface LoraChoice {
  name: string;
  weight?: number;
}

/** Choices; what is undefined or empty is left to the engine. */
export interface Draft {
  kind: Kind;
  engine: string;
  prompt: string;
  negativePrompt: string;
  model: string;
  style: string;
  /** An aspect ratio, `custom` for width and height, or empty. */
  shape: string;
  width?: number;
  height?: number;
  steps?: number;
  guidance?: number;
  scheduler: string;
  /** Decimal digits; empty for a random one. */
  seed: string;
  count: number;
  initImage?: Source;
  strength?: number;
  upscale?: number;
  controls: ControlChoice[];
  loras: LoraChoice[];
  /** Seconds. */
  duration?: number;
  loop: boolean;
  loudness?: number;
}

export const EMPTY: Draft = {
  kind: "image",
  engine: "",
  prompt: "",
  negativePrompt: "",
  model: "",
  style: "",
  shape: "",
  scheduler: "",
  seed: "",
  count: 1,
  controls: [],
  loras: [],
  loop: false,
};

/** Whether there is enough to ask for. */
export function isComplete(draft: Draft): boolean {
  return draft.prompt.trim() !== "" || (draft.kind === "image" && draft.initImage !== undefined);
}

/** The request, without what the engine cannot do: a choice may be left from another engine. */
export function toRequest(draft: Draft, engine: Engine): Request {
  const task = draft.kind === "image" ? toImage(draft, engine) : toAudio(draft, engine);
  return { requestId: newId(), engine: engine.name, inlineOutputs: true, task };
}

type Task = NonNullable<Request["task"]>;

function toImage(draft: Draft, { image }: Engine): Task {
  const can = (feature: ImageFeature) => has(image, feature);
  const sized = image && isChoice(image.width) && isChoice(image.height);
  const steps = isChoice(image?.steps) ? draft.steps : undefined;
  const from = can(ImageFeature.IMAGE_TO_IMAGE) ? draft.initImage : undefined;
  return {
    case: "image",
    value: {
      prompt: draft.prompt,
      negativePrompt: can(ImageFeature.NEGATIVE_PROMPT) ? draft.negativePrompt : "",
      model: image?.models.some(({ name }) => name === draft.model) ? draft.model : "",
      style: image?.styles.includes(draft.style) ? draft.style : "",
      scheduler: image?.schedulers.includes(draft.scheduler) ? draft.scheduler : "",
      aspectRatio: sized && draft.shape !== "custom" ? draft.shape : "",
      ...(sized && draft.shape === "custom" && given({ width: draft.width, height: draft.height })),
      ...given({ steps, guidance: image?.guidance && draft.guidance, seed: toSeed(draft, can(ImageFeature.SEED)) }),
      numImages: Math.min(draft.count, image?.maxImages || 1),
      ...(from && { initImage: toSource(from), ...(!image?.ignoresStrength && given({ strength: draft.strength })) }),
      ...(can(ImageFeature.UPSCALING) && draft.upscale && { upscale: { factor: draft.upscale } }),
      ...(can(ImageFeature.PREVIEW) && {
        previewInterval: previewInterval(steps ?? image?.steps?.default ?? 1, image?.defaultPreviewInterval ?? 0),
      }),
      controls: can(ImageFeature.CONTROLNET) ? draft.controls.map((each) => toControl(each)) : [],
      loras: draft.loras.filter(({ name }) => image?.loras.includes(name)).map((lora) => given(lora)),
    },
  };
}

function toAudio(draft: Draft, { audio }: Engine): Task {
  const can = (feature: AudioFeature) => hasAudio(audio, feature);
  const steps = isChoice(audio?.steps) ? draft.steps : undefined;
  const isFree = !audio?.promptDecidesDuration && draft.duration !== undefined;
  return {
    case: "audio",
    value: {
      prompt: draft.prompt,
      negativePrompt: can(AudioFeature.NEGATIVE_PROMPT) ? draft.negativePrompt : "",
      model: audio?.models.some(({ name }) => name === draft.model) ? draft.model : "",
      ...(isFree && { duration: toDuration(draft.duration!) }),
      ...given({ steps, guidance: audio?.guidance && draft.guidance, seed: toSeed(draft, can(AudioFeature.SEED)) }),
      seamlessLoop: draft.loop && can(AudioFeature.SEAMLESS_LOOP),
      ...(can(AudioFeature.LOUDNESS) && given({ loudnessLufs: draft.loudness })),
      ...(can(AudioFeature.PREVIEW) && { previewInterval: previewInterval(steps ?? audio?.steps?.default ?? 1, 0) }),
    },
  };
}

function toControl({ type, source, preprocess, strength }: ControlChoice) {
  return { type, preprocess, ...(source && { image: toSource(source) }), ...given({ strength }) };
}

function toSource(source: Source) {
  return { source: { case: "artifactId", value: source.artifactId } } as const;
}

function toSeed({ seed }: Draft, takesSeeds: boolean): bigint | undefined {
  return takesSeeds && /^[0-9]+$/.test(seed) ? BigInt(seed) : undefined;
}

function toDuration(seconds: number) {
  const whole = Math.floor(seconds);
  return { seconds: BigInt(whole), nanos: Math.round((seconds - whole) * 1e9) };
}

type Given<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** Only what is defined: an undefined field would be another thing than none. */
function given<T extends object>(fields: T): Given<T> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Given<T>;
}

/** `crypto.randomUUID` is only for pages with TLS or of this machine. */
export function newId(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
