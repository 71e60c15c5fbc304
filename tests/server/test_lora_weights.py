"""The order and the default weights of LoRAs."""

from __future__ import annotations

import pytest
from google.protobuf.json_format import MessageToDict

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_pb2 import DISPOSITION_APPLIED, DISPOSITION_DEFAULTED
from atelier_server.admission.loras import describe_stack, stack_loras
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


def test_the_receipt_lists_every_lora_with_its_order_role_and_weight() -> None:
    """Those of the style too, which the request does not name."""
    asked = [
        pb.Lora(name="film", role=pb.LORA_ROLE_CINEMATIC),
        pb.Lora(name="hero", role=pb.LORA_ROLE_CHARACTER, weight=0.7),
        pb.Lora(name="other"),
    ]
    wanted = [*asked, pb.Lora(name="ink", role=pb.LORA_ROLE_STYLE)]
    entry = describe_stack(asked, wanted, stack_loras(wanted, LoraSettings()))
    assert [MessageToDict(value) for value in entry.value.list_value.values] == [
        {"name": "ink", "role": "style", "weight": 1},
        {"name": "hero", "role": "character", "weight": 0.7},
        {"name": "film", "role": "cinematic", "weight": 0.95},
        {"name": "other", "role": "", "weight": 1},
    ]
    assert [MessageToDict(value) for value in entry.requested.list_value.values][1:] == [
        {"name": "hero", "role": "character", "weight": 0.7},
        {"name": "other", "role": ""},
    ]
    assert entry.disposition == DISPOSITION_APPLIED
    assert "in the order style, character, cinematic" in entry.explanation
    style = wanted[-1:]
    own = describe_stack([], style, stack_loras(style, LoraSettings()))
    assert (own.disposition, own.HasField("requested")) == (DISPOSITION_DEFAULTED, False)
