"""The order and the default weights of LoRAs."""

from __future__ import annotations

import pytest

from atelier.v1 import task_pb2 as pb
from atelier_server.admission.loras import stack_loras
from atelier_server.config.settings import LoraSettings


@pytest.mark.parametrize(
    ("characters", "each", "cinematic"),
    [(0, 0.0, 1.0), (1, 0.85, 0.95), (2, 0.75, 0.85), (3, 0.65, 0.75), (5, 0.65, 0.75)],
)
def test_default_weights_fall_with_the_number_of_characters(
    characters: int, each: float, cinematic: float
) -> None:
    """The order is style, characters, cinematic."""
    asked = [
        pb.Lora(name="film", role=pb.LORA_ROLE_CINEMATIC),
        *(pb.Lora(name=f"c{n}", role=pb.LORA_ROLE_CHARACTER) for n in range(characters)),
        pb.Lora(name="ink", role=pb.LORA_ROLE_STYLE),
    ]
    stack = [(lora.name, lora.weight) for lora in stack_loras(asked, LoraSettings())]
    expected = [(f"c{n}", each) for n in range(characters)]
    assert stack == [("ink", 1.0), *expected, ("film", cinematic)]


def test_requested_weights_are_kept() -> None:
    """Zero included; LoRAs without a role come last."""
    asked = [
        pb.Lora(name="other"),
        pb.Lora(name="hero", role=pb.LORA_ROLE_CHARACTER, weight=0.0),
    ]
    stack = [(lora.name, lora.weight) for lora in stack_loras(asked, LoraSettings())]
    assert stack == [("hero", 0.0), ("other", 1.0)]
