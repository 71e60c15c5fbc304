"""Writes down, for the receipt, how each value that is used came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from google.protobuf.struct_pb2 import Value

from atelier.v1.generation_pb2 import Disposition, Parameter
from atelier_engines.capabilities import IntegerRange, NumberRange
from atelier_server.errors import InvalidRequestError, Violation

ValueT = TypeVar("ValueT", int, float)
ChoiceT = TypeVar("ChoiceT", bound=Enum)

_NO_EFFECT_GUIDANCE = (
    1.0  # at or below it there is no unconditional pass for a negative prompt to steer
)


@dataclass(frozen=True, slots=True)
class ParameterRecorder:
    """Decides values one by one; `parameters` is the account of it."""

    parameters: list[Parameter] = field(default_factory=list)

    def apply_default(
        self, name: str, asked: ValueT | None, default: ValueT, why: str = "not given"
    ) -> ValueT:
        """The value asked for, else the default; whether it is allowed is for others to say."""
        if asked is None:
            self._record(name, default, None, Disposition.DISPOSITION_DEFAULTED, why)
            return default
        self._record(name, asked, asked, Disposition.DISPOSITION_APPLIED)
        return asked

    def clamp(
        self,
        name: str,
        asked: float | None,
        allowed: IntegerRange | NumberRange | None,
        default: float | None = None,
    ) -> float | None:
        """The value asked for, brought within the engine's range; None on engines that have no such parameter.

        `default` is the style's, and comes before the engine's.
        """
        if allowed is None:
            if asked is not None:
                self.ignore(name, asked, f"this engine has no {name}")
            return None
        if asked is None:
            default = allowed.default if default is None else default
            return self.apply_default(name, None, _find_nearest(default, allowed))
        used = _find_nearest(asked, allowed)
        if used == asked:
            return self.apply_default(name, asked, used)
        why = f"this engine takes {_describe_range(allowed)}"
        self._record(name, used, asked, Disposition.DISPOSITION_CLAMPED, why)
        return used

    def choose(self, name: str, asked: str, known: Sequence[str]) -> str:
        """The name asked for, else the first known one; whether it is known is for others to say."""
        if asked:
            self._record(name, asked, asked, Disposition.DISPOSITION_APPLIED)
            return asked
        if not known:
            return ""
        self._record(name, known[0], None, Disposition.DISPOSITION_DEFAULTED, "not given")
        return known[0]

    def choose_optional(
        self, name: str, asked: ChoiceT | None, offers: Sequence[ChoiceT]
    ) -> ChoiceT | None:
        """What was asked for, if the engine offers it; None for the engine's own way."""
        if asked is None:
            return None
        if asked not in offers:
            self.ignore(
                name, str(asked.value), f"this engine does not let the caller choose its {name}"
            )
            return None
        self._record(name, str(asked.value), str(asked.value), Disposition.DISPOSITION_APPLIED)
        return asked

    def choose_seed(self, asked: int | None, drawn: int, *, can: bool) -> int:
        """The seed asked for, else the drawn one."""
        if asked is not None and not can:
            self.ignore("seed", asked, "seeds have no effect on this engine")
            return drawn
        if asked is None:
            self._record("seed", drawn, None, Disposition.DISPOSITION_DEFAULTED, "drawn at random")
            return drawn
        return self.apply_default("seed", asked, drawn)

    def choose_negative_prompt(self, asked: str, guidance: float | None, *, can: bool) -> str:
        """The negative prompt, if it has any effect."""
        if asked and not can:
            self.ignore("negative_prompt", asked, "this engine takes no negative prompt")
            return ""
        if asked and guidance is not None and guidance <= _NO_EFFECT_GUIDANCE:
            self.ignore("negative_prompt", asked, "it has no effect when guidance is 1 or less")
            return ""
        if asked:
            self._record("negative_prompt", asked, asked, Disposition.DISPOSITION_APPLIED)
        return asked

    def ignore(self, name: str, asked: str | float, why: str) -> None:
        """Account for something that is not used."""
        self._record(name, None, asked, Disposition.DISPOSITION_IGNORED, why)

    def reject_changes(self, task: str) -> None:
        """Raise if anything was clamped or ignored.

        Raises:
            InvalidRequestError: names each of them.
        """
        changed = {Disposition.DISPOSITION_CLAMPED, Disposition.DISPOSITION_IGNORED}
        violations = [
            Violation(
                f"{task}.{entry.name}",
                f"{entry.explanation} (refused because the request is strict)",
            )
            for entry in self.parameters
            if entry.disposition in changed
        ]
        if violations:
            raise InvalidRequestError(violations)

    def _record(
        self,
        name: str,
        used: str | float | None,
        asked: str | float | None,
        disposition: Disposition.ValueType,
        why: str = "",
    ) -> None:
        entry = Parameter(name=name, disposition=disposition, explanation=why)
        if used is not None:
            entry.value.CopyFrom(_to_value(used))
        if asked is not None:
            entry.requested.CopyFrom(_to_value(asked))
        self.parameters.append(entry)


def _find_nearest(value: float, allowed: IntegerRange | NumberRange) -> float:
    """What is allowed and nearest to the value; of two choices as near, the larger one."""
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
    if isinstance(value, int):
        return (
            Value(number_value=value) if abs(value) < 2**53 else Value(string_value=str(value))
        )  # JSON's exact range
    return Value(number_value=float(f"{value:.7g}"))  # the contract's floats carry seven digits
