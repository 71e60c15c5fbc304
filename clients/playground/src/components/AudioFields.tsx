/** What an audio task can say, as far as the engine can do it. */
import type { AudioCapabilities } from "@atelier/client/contract";
import { AudioFeature, hasAudio, isChoice } from "../engines";
import { draft, update } from "../form";
import { Choice, NumberField, Switch, TextField } from "./Fields";
import { More, SeedField } from "./SharedFields";

export function AudioFields({ audio }: { audio: AudioCapabilities }) {
  const { value } = draft;
  const can = (feature: AudioFeature) => hasAudio(audio, feature);
  const models = [["", "Default"], ...audio.models.map(({ name }) => [name, name])] as [string, string][];
  return (
    <>
      {can(AudioFeature.NEGATIVE_PROMPT) && (
        <TextField
          label="Negative prompt"
          path="negativePrompt"
          placeholder="What should not be heard"
          value={value.negativePrompt}
          set={(negativePrompt) => update({ negativePrompt })}
        />
      )}
      {audio.durationSeconds && !audio.promptDecidesDuration && (
        <NumberField
          label="Seconds"
          path="duration"
          range={audio.durationSeconds}
          step={0.5}
          value={value.duration}
          set={(duration) => update({ duration })}
        />
      )}
      {can(AudioFeature.SEAMLESS_LOOP) && (
        <Switch label="Seamless loop" value={value.loop} set={(loop) => update({ loop })} />
      )}
      <More>
        {audio.models.length > 1 && (
          <Choice label="Model" path="model" value={value.model} options={models} set={(model) => update({ model })} />
        )}
        {isChoice(audio.steps) && (
          <NumberField
            label="Steps"
            path="steps"
            range={audio.steps}
            value={value.steps}
            set={(steps) => update({ steps })}
          />
        )}
        {audio.guidance && (
          <NumberField
            label="Guidance"
            path="guidance"
            range={audio.guidance}
            value={value.guidance}
            set={(guidance) => update({ guidance })}
          />
        )}
        {can(AudioFeature.LOUDNESS) && (
          <NumberField
            label="Loudness in LUFS"
            path="loudnessLufs"
            range={{ min: -40, max: 0, default: -16 }}
            step={1}
            value={value.loudness}
            set={(loudness) => update({ loudness })}
          />
        )}
        {can(AudioFeature.SEED) && <SeedField />}
      </More>
    </>
  );
}
