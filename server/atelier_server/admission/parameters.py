"""Records, for the receipt, how each parameter of a task was decided."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from google.protobuf.struct_pb2 import Value

from atelier.v1.generation_pb2 import (
    DISPOSITION_APPLIED,
    DISPOSITION_CLAMPED,
    DISPOSITION_DEFAULTED,
    DISPOSITION_EMULATED,
    DISPOSITION_IGNORED,
    Disposition,
    Generation,
    Parameter,
    Receipt,
)
from atelier_engines.capabilities import IntegerRange, NumberRange
from atelier_server.admission.aspect_ratios import parse_ratio
from atelier_server.admission.route import REPRODUCIBILITIES, Route
from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.estimates.cost_units import count_cost_units

ValueT = TypeVar("ValueT", int, float)
ChoiceT = TypeVar("ChoiceT", bound=Enum)

NO_NEGATIVE_PROMPT = "this engine does not support negative_prompt"
"""Why a negative prompt is ignored."""
NO_PREVIEWS = "this engine does not support previews"
"""Why an interval of previews is ignored."""
_STRENGTH_UNITS = 10_000  # raised strengths have four decimals
_MAX_UNGUIDED = (
    1.0  # up to this guidance no unconditional pass runs, so a negative prompt has no effect
)


def to_decimal(value: float) -> float:
    """The decimal of at most seven digits that a float of the contract stands for: 0.7, which arrives as 0.699999988.

    Seven digits are what 32 bits hold; with the error left in, 0.7 of 10 steps would be 6.
    """
    return float(f"{value:.7g}")


def describe_route(route: Route, generation: Generation) -> None:
    """Write a decision into the record: the engine, and the receipt's reason, parameters and reproducibility."""
    receipt = generation.receipt
    generation.engine = route.engine.name
    if route.skipped is not None:
        receipt.attempts.append(route.skipped)
    if route.selection is not None:
        receipt.selection.CopyFrom(route.selection)
    del receipt.parameters[:]
    receipt.parameters.extend(route.resolved.parameters)
    receipt.reproducibility = REPRODUCIBILITIES[route.engine.capabilities.reproducibility]
    receipt.cost_units = count_cost_units(route.resolved.task)


def describe_made_size(receipt: Receipt, width: int, height: int, reason: str) -> set[str]:
    """Write the size in pixels that an output has into the receipt; returns which requested parameters it changes.

    `reason` says why the engine makes another size than that of the task.
    """
    changed = set()
    made = {"width": width, "height": height}
    for entry in receipt.parameters:
        if entry.name in made and entry.value.number_value != made[entry.name]:
            entry.value.number_value = made[entry.name]
            entry.explanation = reason
            if entry.HasField("requested"):
                entry.disposition = DISPOSITION_CLAMPED
                changed.add(entry.name)
        if entry.name == "aspect_ratio" and not _has_ratio(entry, width, height):
            entry.value.string_value = f"{width}:{height}"
            entry.explanation = reason
            entry.disposition = DISPOSITION_CLAMPED
            changed.add(entry.name)
    return changed


@dataclass(frozen=True, slots=True)
class ParameterRecorder:
    """Decides the parameters of one task, one by one; `parameters` records each decision."""

    parameters: list[Parameter] = field(default_factory=list)

    def apply_default(
        self, name: str, requested: ValueT | None, default: ValueT, explanation: str = "not given"
    ) -> ValueT:
        """The requested value, else the default; it is not checked against the engine's limits here."""
        if requested is None:
            self._record(name, default, None, DISPOSITION_DEFAULTED, explanation)
            return default
        self._record(name, requested, requested, DISPOSITION_APPLIED)
        return requested

    def clamp(
        self,
        name: str,
        requested: float | None,
        allowed: IntegerRange | NumberRange | None,
        default: float | None = None,
        explanation: str = "not given",
    ) -> float | None:
        """The requested value, clamped to the engine's range; None on engines that do not support the parameter.

        `default` takes precedence over the engine's, for the reason that `explanation` gives.
        """
        if allowed is None:
            if requested is not None:
                self.ignore(name, requested, f"this engine does not support {name}")
            return None
        if requested is None:
            default = allowed.default if default is None else default
            return self.apply_default(name, None, _find_nearest(default, allowed), explanation)
        used = _find_nearest(requested, allowed)
        if used == requested:
            return self.apply_default(name, requested, used)
        explanation = f"this engine supports {_describe_range(allowed)}"
        self._record(name, used, requested, DISPOSITION_CLAMPED, explanation)
        return used

    def record_clamped(self, name: str, used: ValueT, requested: ValueT, explanation: str) -> None:
        """Record a value in whose place another is used, or of which the engine makes something else."""
        self._record(name, used, requested, DISPOSITION_CLAMPED, explanation)

    def raise_strength(self, requested: float | None, default: float, steps: int | None) -> float:
        """The requested strength, else the default; if either leaves none of the steps, the least one that leaves one.

        `steps` is None where strength skips none. A requested 0 keeps the image, and is no step.
        """
        least = 0.0 if steps is None else math.ceil(_STRENGTH_UNITS / steps) / _STRENGTH_UNITS
        if requested is None:
            return self.apply_default("strength", None, max(default, least))
        if not requested or steps is None or int(steps * requested):
            return self.apply_default("strength", requested, default)
        explanation = (
            f"{requested:g} of {steps} steps is no whole step: the least that runs one is {least:g}"
        )
        self._record("strength", least, requested, DISPOSITION_CLAMPED, explanation)
        return least

    def choose(
        self, name: str, requested: str, known: Sequence[str], explanation: str = "not given"
    ) -> str:
        """The requested name, else the first known one; a requested name is not checked here."""
        if requested:
            self._record(name, requested, requested, DISPOSITION_APPLIED)
            return requested
        if not known:
            return ""
        self._record(name, known[0], None, DISPOSITION_DEFAULTED, explanation)
        return known[0]

    def choose_optional(
        self, name: str, requested: ChoiceT | None, offers: Sequence[ChoiceT]
    ) -> ChoiceT | None:
        """The requested value, if the engine lets callers choose it; None for the engine's configured one."""
        if requested is None:
            return None
        if requested not in offers:
            self.ignore(name, str(requested.value), f"this engine does not support {name}")
            return None
        self._record(name, str(requested.value), str(requested.value), DISPOSITION_APPLIED)
        return requested

    def choose_seed(
        self, requested: int | None, random_seed: int, allowed: range | None, *, count: int = 1
    ) -> int:
        """The requested seed, else the random one; recorded in digits, since a double does not hold every seed.

        Either is reduced so that it and those of the other images, `count` in all, are in the engine's range, which
        is None for an engine that uses no seeds.
        """
        drawn = random_seed if allowed is None else _reduce(random_seed, allowed, count)
        if requested is None:
            explanation = "not given: random"
            self._record("seed", str(drawn), None, DISPOSITION_DEFAULTED, explanation)
            return drawn
        if allowed is None:
            self.ignore("seed", str(requested), "this engine does not support seed")
            return drawn
        used = _reduce(requested, allowed, count)
        if used == requested:
            self._record("seed", str(used), str(used), DISPOSITION_APPLIED)
            return used
        explanation = f"this engine takes seeds of {allowed.start} to {allowed.stop - 1}"
        if count > 1:
            explanation += f", and {count} images take as many"
        self._record("seed", str(used), str(requested), DISPOSITION_CLAMPED, explanation)
        return used

    def choose_negative_prompt(self, requested: str, guidance: float | None, *, reason: str) -> str:
        """The requested negative prompt, if it has an effect; else empty. `reason` says why the engine takes none."""
        if requested and reason:
            self.ignore("negative_prompt", requested, reason)
            return ""
        if requested and guidance is not None and guidance <= _MAX_UNGUIDED:
            self.ignore("negative_prompt", requested, "it has no effect when guidance is 1 or less")
            return ""
        if requested:
            self._record("negative_prompt", requested, requested, DISPOSITION_APPLIED)
        return requested

    def apply(self, name: str, requested: str) -> None:
        """Record a requested name that is used as it is."""
        self._record(name, requested, requested, DISPOSITION_APPLIED)

    def read_text(self, name: str, requested: str, used: str, problem: str) -> None:
        """Record what was read in a text; with a problem, that it is not quite what was meant."""
        disposition = DISPOSITION_CLAMPED if problem else DISPOSITION_APPLIED
        self._record(name, used, requested, disposition, problem)

    def leave_out(self, name: str, explanation: str) -> None:
        """Record that nothing is used where nothing was requested, because somebody may expect otherwise."""
        self._record(name, None, None, DISPOSITION_DEFAULTED, explanation)

    def replace_name(self, name: str, requested: str, used: str, explanation: str) -> str:
        """Record a requested name in whose place another is used; returns that."""
        self._record(name, used, requested, DISPOSITION_CLAMPED, explanation)
        return used

    def apply_flag(self, name: str) -> None:
        """Record what was requested with a flag, and is done."""
        self._record(name, used=True, requested=True, disposition=DISPOSITION_APPLIED)

    def emulate(self, name: str, requested: str | float, explanation: str) -> None:
        """Record a requested value that other means stand in for."""
        self._record(name, requested, requested, DISPOSITION_EMULATED, explanation)

    def ignore(self, name: str, requested: str | float, explanation: str) -> None:
        """Record a requested value that is not used."""
        self._record(name, None, requested, DISPOSITION_IGNORED, explanation)

    def reject_changes(self, task: str, exceptions: Collection[str] = ()) -> None:
        """Return if every requested value was applied, but for those of the parameters in `exceptions`.

        Raises:
            InvalidRequestError: some were clamped or ignored; names each of them.
        """
        changed = {DISPOSITION_CLAMPED, DISPOSITION_IGNORED}
        violations = [
            Violation(
                f"{task}.{entry.name}",
                f"{entry.explanation} (refused because the request is strict)",
            )
            for entry in self.parameters
            if entry.disposition in changed and entry.name not in exceptions
        ]
        if violations:
            raise InvalidRequestError(violations)

    def _record(
        self,
        name: str,
        used: str | float | None,
        requested: str | float | None,
        disposition: Disposition.ValueType,
        explanation: str = "",
    ) -> None:
        entry = Parameter(
            name=name,
            value=None if used is None else _to_value(used),
            requested=None if requested is None else _to_value(requested),
            disposition=disposition,
            explanation=explanation,
        )
        self.parameters.append(entry)


def _has_ratio(entry: Parameter, width: int, height: int) -> bool:
    """Whether the size has the aspect ratio that was used; one that was ignored counts for nothing."""
    used = entry.value.string_value
    return not used or parse_ratio(used).is_near(width, height)


def _reduce(seed: int, allowed: range, count: int) -> int:
    """The seed modulo the size of the range, or the last one that leaves `count` seeds."""
    reduced = allowed.start + (seed - allowed.start) % (allowed.stop - allowed.start)
    return max(min(reduced, allowed.stop - count), allowed.start)


def _find_nearest(value: float, allowed: IntegerRange | NumberRange) -> float:
    """The allowed value nearest to this one; of two equally near the larger one."""
    if isinstance(allowed, IntegerRange) and allowed.allowed_values:
        return min(reversed(allowed.allowed_values), key=lambda choice: abs(choice - value))
    return min(max(value, allowed.min), allowed.max)


def _describe_range(allowed: IntegerRange | NumberRange) -> str:
    if isinstance(allowed, IntegerRange) and allowed.allowed_values:
        return "only " + ", ".join(map(str, allowed.allowed_values))
    return f"{allowed.min:g} to {allowed.max:g}"


def _to_value(value: str | float) -> Value:
    if isinstance(value, str):
        return Value(string_value=value)
    if isinstance(value, bool):
        return Value(bool_value=value)
    if isinstance(value, int):
        return Value(number_value=value)
    return Value(number_value=to_decimal(value))
