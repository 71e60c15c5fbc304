/** The controls of the form. Each shows what is wrong with it, and what the server would make of its value. */
import type { ComponentChildren } from "preact";
import { useEffect, useId } from "preact/hooks";
import { noteOf, place, problemOf } from "../form";

interface FieldProps {
  label: string;
  /** Path in the task, such as `width`. */
  path: string;
  /** Beside the label: the default or the limits. */
  hint?: string;
}

/** What a control needs to be bound to its label and messages. */
export interface Bound {
  id: string;
  "aria-invalid": boolean;
  "aria-describedby": string;
}

/** A label, a control, and under it what is to be said of its value. */
export function Field({ label, path, hint, children }: FieldProps & { children: (bound: Bound) => ComponentChildren }) {
  const id = useId();
  useEffect(() => place(path), [path]);
  const problem = problemOf(path);
  const note = noteOf(path.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`));
  return (
    <div class={problem ? "field wrong" : "field"} data-path={path}>
      <div class="label">
        <label for={id}>{label}</label>
        {hint && <span class="hint">{hint}</span>}
      </div>
      {children({ id, "aria-invalid": problem !== "", "aria-describedby": `${id}-about` })}
      <p id={`${id}-about`} class={problem ? "problem" : "note"}>
        {problem || note}
      </p>
    </div>
  );
}

export function TextField(
  props: FieldProps & {
    value: string;
    max?: number;
    rows?: number;
    placeholder?: string;
    set: (value: string) => void;
  },
) {
  const { value, max, rows, placeholder, set } = props;
  return (
    <Field {...props}>
      {(bound) => (
        <textarea
          {...bound}
          rows={rows ?? 2}
          value={value}
          maxLength={max || undefined}
          placeholder={placeholder}
          onInput={(event) => set(event.currentTarget.value)}
        />
      )}
    </Field>
  );
}

export function Choice(
  props: FieldProps & {
    value: string;
    options: readonly (readonly [value: string, text: string])[];
    set: (value: string) => void;
  },
) {
  return (
    <Field {...props}>
      {(bound) => (
        <select {...bound} value={props.value} onChange={(event) => props.set(event.currentTarget.value)}>
          {props.options.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
      )}
    </Field>
  );
}

/** Limits and default of a number, as capabilities have them. */
interface Range {
  min: number;
  max: number;
  default: number;
  multipleOf?: number;
  allowedValues?: number[];
}

interface NumberProps extends FieldProps {
  value: number | undefined;
  range: Range;
  /** Of the slider, where the range has none. */
  step?: number;
  set: (value: number | undefined) => void;
}

/** A number within a range: a slider, and a box that is empty as long as the engine decides. */
export function NumberField(props: NumberProps) {
  const { value, range, set } = props;
  const step = range.multipleOf || props.step || 0.1;
  if (range.allowedValues && range.allowedValues.length > 0) {
    const allowed = range.allowedValues.map((each) => [`${each}`, `${each}`] as const);
    const options = [["", `Default (${range.default})`] as const, ...allowed];
    return (
      <Choice
        {...props}
        value={`${value ?? ""}`}
        options={options}
        set={(text) => set(text === "" ? undefined : Number(text))}
      />
    );
  }
  return (
    <Field hint={`${round(range.min)} – ${round(range.max)}`} {...props}>
      {(bound) => (
        <div class="number">
          <input
            type="range"
            aria-label={`${props.label}, slider`}
            min={range.min}
            max={range.max}
            step={step}
            value={value ?? range.default}
            onInput={(event) => set(event.currentTarget.valueAsNumber)}
          />
          <input
            {...bound}
            type="number"
            inputMode="decimal"
            min={range.min}
            max={range.max}
            step="any"
            placeholder={`${round(range.default)}`}
            value={value ?? ""}
            onInput={(event) => set(numberIn(event.currentTarget))}
          />
        </div>
      )}
    </Field>
  );
}

function numberIn(input: HTMLInputElement): number | undefined {
  return Number.isNaN(input.valueAsNumber) ? undefined : input.valueAsNumber;
}

/** Two to seven choices side by side; arrow keys move between them. */
export function Segments(
  props: FieldProps & {
    value: string;
    options: readonly (readonly [value: string, text: string])[];
    set: (value: string) => void;
  },
) {
  const name = useId();
  useEffect(() => place(props.path), [props.path]);
  const problem = problemOf(props.path);
  return (
    <fieldset class="field segments" data-path={props.path}>
      <legend>{props.label}</legend>
      <div class="row">
        {props.options.map(([value, text]) => (
          <label key={value}>
            <input type="radio" name={name} checked={props.value === value} onChange={() => props.set(value)} />
            <span>{text}</span>
          </label>
        ))}
      </div>
      {problem && <p class="problem">{problem}</p>}
    </fieldset>
  );
}

export function Switch({ label, value, set }: { label: string; value: boolean; set: (value: boolean) => void }) {
  return (
    <label class="switch">
      <input type="checkbox" checked={value} onChange={(event) => set(event.currentTarget.checked)} />
      <span>{label}</span>
    </label>
  );
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}
