"""Orders the LoRAs of a task, and chooses the weights that the request leaves open."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_pb2 import (
    DISPOSITION_APPLIED,
    DISPOSITION_DEFAULTED,
    Parameter,
)
from atelier_engines.task import Lora
from atelier_server.admission.parameters import to_decimal
from atelier_server.config.settings import LoraSettings

_ORDER = (
    pb.LORA_ROLE_STYLE,
    pb.LORA_ROLE_CHARACTER,
    pb.LORA_ROLE_CINEMATIC,
    pb.LORA_ROLE_UNSPECIFIED,
)


_ROLES = {
    pb.LORA_ROLE_STYLE: "style",
    pb.LORA_ROLE_CHARACTER: "character",
    pb.LORA_ROLE_CINEMATIC: "cinematic",
    pb.LORA_ROLE_UNSPECIFIED: "",
}


def stack_loras(loras: Sequence[pb.Lora], settings: LoraSettings) -> tuple[Lora, ...]:
    """Style first, then characters, then cinematic, then the rest; within a role in the order of the request.

    Default weights of characters and of cinematic LoRAs fall with the number of characters.
    """
    characters = sum(lora.role == pb.LORA_ROLE_CHARACTER for lora in loras)
    return tuple(
        Lora(name=lora.name, weight=_choose_weight(lora, characters, settings))
        for lora in sorted(loras, key=lambda lora: _ORDER.index(lora.role))
    )


def _choose_weight(lora: pb.Lora, characters: int, settings: LoraSettings) -> float:
    if lora.HasField("weight"):
        return to_decimal(lora.weight)
    match lora.role:
        case pb.LORA_ROLE_CHARACTER:
            return _weight_at(settings.character_weights, characters - 1)
        case pb.LORA_ROLE_CINEMATIC:
            return _weight_at(settings.cinematic_weights, characters)
        case _:
            return 1.0


def _weight_at(weights: Sequence[float], count: int) -> float:
    return weights[min(count, len(weights) - 1)]


def describe_stack(
    asked: Sequence[pb.Lora], wanted: Sequence[pb.Lora], stacked: Sequence[Lora]
) -> Parameter:
    """The entry of the receipt: every LoRA in the order in which it is applied, with its role and its weight.

    `asked` are those of the request, `wanted` also those of its style and its prompt.
    """
    roles = {lora.name: lora.role for lora in wanted}
    used = [_describe(lora.name, roles[lora.name], lora.weight) for lora in stacked]
    requested = [
        _describe(
            lora.name, lora.role, to_decimal(lora.weight) if lora.HasField("weight") else None
        )
        for lora in asked
    ]
    entry = Parameter(
        name="lora_stack",
        value=Value(list_value=ListValue(values=used)),
        disposition=DISPOSITION_APPLIED if asked else DISPOSITION_DEFAULTED,
    )
    if asked:
        entry.requested.list_value.values.extend(requested)
    if used != requested:
        entry.explanation = (
            "with those of the style and the prompt, in the order style, character, cinematic, others; "
            "weights that are not given are those of the configuration"
        )
    return entry


def _describe(name: str, role: pb.LoraRole.ValueType, weight: float | None) -> Value:
    fields = {"name": Value(string_value=name), "role": Value(string_value=_ROLES[role])}
    if weight is not None:
        fields["weight"] = Value(number_value=weight)
    return Value(struct_value=Struct(fields=fields))
