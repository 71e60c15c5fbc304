/** What an image task can say, as far as the engine can do it. */
import { type ControlType, type ImageCapabilities } from "@atelier/client/contract";
import { type ControlChoice, type LoraChoice, newId } from "../draft";
import { has, ImageFeature, isChoice, shapes } from "../engines";
import { draft, update } from "../form";
import { CONTROL_NAMES } from "../words";
import { Choice, NumberField, Segments, Switch, TextField } from "./Fields";
import { SourceField } from "./SourceField";
import { More, SeedField } from "./SharedFields";

export function ImageFields({ image }: { image: ImageCapabilities }) {
  const { value } = draft;
  const named = (names: readonly string[], first: string) =>
    [["", first], ...names.map((name) => [name, name])] as [string, string][];
  return (
    <>
      {has(image, ImageFeature.NEGATIVE_PROMPT) && (
        <TextField
          label="Negative prompt"
          path="negativePrompt"
          placeholder="What should not be in it"
          value={value.negativePrompt}
          max={image.maxPromptLength}
          set={(negativePrompt) => update({ negativePrompt })}
        />
      )}
      <Size image={image} />
      {image.maxImages > 1 && (
        <NumberField
          label="Number of images"
          path="numImages"
          range={{ min: 1, max: Math.min(image.maxImages, 8), default: 1 }}
          step={1}
          value={value.count}
          set={(count) => update({ count: count ?? 1 })}
        />
      )}
      {image.styles.length > 0 && (
        <Choice
          label="Style"
          path="style"
          value={value.style}
          options={named(image.styles, "None")}
          set={(style) => update({ style })}
        />
      )}
      {has(image, ImageFeature.IMAGE_TO_IMAGE) && <InitImage image={image} />}
      {has(image, ImageFeature.CONTROLNET) && image.controlTypes.length > 0 && <Controls image={image} />}
      {image.loras.length > 0 && <Loras image={image} />}
      <More>
        {image.models.length > 1 && (
          <Choice
            label="Model"
            path="model"
            value={value.model}
            options={named(
              image.models.map(({ name }) => name),
              "Default",
            )}
            set={(model) => update({ model })}
          />
        )}
        {isChoice(image.steps) && (
          <NumberField
            label="Steps"
            path="steps"
            range={image.steps}
            value={value.steps}
            set={(steps) => update({ steps })}
          />
        )}
        {image.guidance && (
          <NumberField
            label="Guidance"
            path="guidance"
            range={image.guidance}
            value={value.guidance}
            set={(guidance) => update({ guidance })}
          />
        )}
        {image.schedulers.length > 1 && (
          <Choice
            label="Scheduler"
            path="scheduler"
            value={value.scheduler}
            options={named(image.schedulers, `Default (${image.schedulers[0]})`)}
            set={(scheduler) => update({ scheduler })}
          />
        )}
        {has(image, ImageFeature.SEED) && <SeedField />}
        {has(image, ImageFeature.UPSCALING) && (
          <Choice
            label="Upscaling"
            path="upscale"
            value={`${value.upscale ?? ""}`}
            options={[
              ["", "None"],
              ["2", "2 ×"],
              ["4", "4 ×"],
            ]}
            set={(factor) => update({ upscale: Number(factor) || undefined })}
          />
        )}
      </More>
    </>
  );
}

function Size({ image }: { image: ImageCapabilities }) {
  const { shape, width, height } = draft.value;
  const offered = shapes(image);
  if (offered.length === 0) return null;
  const options = [["", "Default"], ...offered.map((each) => [each, each]), ["custom", "Custom"]] as [string, string][];
  return (
    <>
      <Segments
        label="Size"
        path="aspectRatio"
        value={shape}
        options={options}
        set={(chosen) => update({ shape: chosen })}
      />
      {shape === "custom" && (
        <div class="pair">
          <NumberField
            label="Width"
            path="width"
            range={image.nativeSide ?? image.width!}
            value={width}
            set={(pixels) => update({ width: pixels })}
          />
          <NumberField
            label="Height"
            path="height"
            range={image.nativeSide ?? image.height!}
            value={height}
            set={(pixels) => update({ height: pixels })}
          />
        </div>
      )}
    </>
  );
}

function InitImage({ image }: { image: ImageCapabilities }) {
  const { initImage, strength } = draft.value;
  return (
    <>
      <SourceField
        label="Init image"
        path="initImage"
        source={initImage}
        set={(source) => update({ initImage: source })}
      />
      {initImage && !image.ignoresStrength && (
        <NumberField
          label="Strength"
          path="strength"
          hint="0 keeps the image, 1 ignores it"
          range={{ min: 0, max: 1, default: 0.75 }}
          step={0.05}
          value={strength}
          set={(value) => update({ strength: value })}
        />
      )}
    </>
  );
}

function Controls({ image }: { image: ImageCapabilities }) {
  const { controls } = draft.value;
  // The draft is read when a change comes: an image is sent for a while, in which others may change.
  const set = (id: string, change: Partial<ControlChoice>) =>
    update({ controls: draft.value.controls.map((each) => (each.id === id ? { ...each, ...change } : each)) });
  const types = image.controlTypes.map((type) => [`${type}`, CONTROL_NAMES[type]] as [string, string]);
  const computes = has(image, ImageFeature.CONTROL_PREPROCESSING);
  return (
    <section class="group" aria-label="ControlNet">
      {controls.map((control, index) => (
        <div class="card" key={control.id}>
          <SourceField
            label={`ControlNet image ${index + 1}`}
            path={`controls[${index}].image`}
            source={control.source}
            set={(source) => set(control.id, { source })}
          />
          <div class="pair">
            <Choice
              label="Type"
              path={`controls[${index}].type`}
              value={`${control.type}`}
              options={types}
              set={(type) => set(control.id, { type: Number(type) as ControlType })}
            />
            <NumberField
              label="Strength"
              path={`controls[${index}].strength`}
              range={{ min: 0, max: 2, default: 1 }}
              step={0.05}
              value={control.strength}
              set={(strength) => set(control.id, { strength })}
            />
          </div>
          {computes && (
            <Switch
              label="Compute the map from the image"
              value={control.preprocess}
              set={(preprocess) => set(control.id, { preprocess })}
            />
          )}
          <button
            type="button"
            class="quiet"
            onClick={() => update({ controls: controls.filter(({ id }) => id !== control.id) })}
          >
            Remove ControlNet {index + 1}
          </button>
        </div>
      ))}
      {controls.length < image.maxControls && (
        <button
          type="button"
          class="add"
          onClick={() => update({ controls: [...controls, { id: newId(), type: image.controlTypes[0]!, preprocess: computes }] })}
        >
          + ControlNet
        </button>
      )}
    </section>
  );
}

function Loras({ image }: { image: ImageCapabilities }) {
  const { loras } = draft.value;
  const left = image.loras.filter((name) => !loras.some((lora) => lora.name === name));
  const set = (name: string, change: Partial<LoraChoice>) =>
    update({ loras: loras.map((each) => (each.name === name ? { ...each, ...change } : each)) });
  return (
    <section class="group" aria-label="LoRAs">
      {loras.map(({ name, weight }, index) => (
        <div class="card" key={name}>
          <NumberField
            label={`LoRA ${name}`}
            path={`loras[${index}].weight`}
            range={{ min: -2, max: 2, default: 1 }}
            step={0.05}
            value={weight}
            set={(value) => set(name, { weight: value })}
          />
          <button
            type="button"
            class="quiet"
            onClick={() => update({ loras: loras.filter((each) => each.name !== name) })}
          >
            Remove {name}
          </button>
        </div>
      ))}
      {left.length > 0 && loras.length < image.maxLoras && (
        <select
          aria-label="Add a LoRA"
          class="add"
          value=""
          onChange={(event) => update({ loras: [...loras, { name: event.currentTarget.value }] })}
        >
          <option value="">+ LoRA</option>
          {left.map((name) => (
            <option key={name}>{name}</option>
          ))}
        </select>
      )}
    </section>
  );
}
