"""Orders the LoRAs of a task, and chooses the weights that the request leaves open."""

from __future__ import annotations

from collections.abc import Sequence

from atelier.v1 import task_pb2 as pb
from atelier_engines.task import Lora
from atelier_server.admission.parameters import to_decimal
from atelier_server.config.settings import LoraSettings

_ORDER = (
    pb.LORA_ROLE_STYLE,
    pb.LORA_ROLE_CHARACTER,
    pb.LORA_ROLE_CINEMATIC,
    pb.LORA_ROLE_UNSPECIFIED,
)


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
