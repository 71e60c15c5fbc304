"""A clip that was made before is returned for a similar prompt, and is never said to be new."""

from __future__ import annotations

import io
import json
from pathlib import Path

import soundfile

from atelier_client import AudioTask, Client
from atelier_client.enums import AudioFormat, Disposition
from atelier_client.results import Generation
from tests.conftest import StartServer
from tests.engines.audio_diffusion import tiny_bert
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux
from tests.server.test_metrics import key, samples

ONE, OTHER = "rain on a roof", "the rain on the roof"


def describe(made: Generation) -> dict[str, object]:
    """What the file says of itself."""
    with soundfile.SoundFile(io.BytesIO(made.outputs[0].data)) as file:
        _, _, record = file.comment.partition("{")
    found: dict[str, object] = json.loads("{" + record)
    return found


def test_a_reused_clip_is_free_and_says_what_it_was_made_of(
    start_server: StartServer, tangoflux: TinyTangoFlux, tmp_path: Path
) -> None:
    """In the receipt, in the file's tags and in the metrics; a seed has a new one made."""
    server = start_server(
        engines={
            "sound": {
                "type": "tangoflux",
                **tangoflux.settings,
                "reuse": {
                    "bge_model": str(tiny_bert.write(tmp_path / "bert")),
                    "tau_prompt_sem": 0.5,
                    "target_per_prompt": 1,
                },
            }
        }
    )
    with Client(server.address) as client:

        def made(prompt: str, seed: int | None = None) -> Generation:
            asked = AudioTask(
                prompt=prompt, duration_seconds=0.5, steps=2, seed=seed, format=AudioFormat.FLAC
            )
            return client.generate(asked, engine="sound")

        first, again = made(ONE), made(OTHER)
        own = made(OTHER, seed=7)
    assert first.receipt is not None
    assert again.receipt is not None
    assert own.receipt is not None
    assert (first.receipt.cached, first.receipt.reuse) == (False, None)
    assert (own.receipt.cached, own.receipt.reuse) == (False, None)
    assert again.receipt.cached
    assert again.receipt.reuse is not None
    assert again.receipt.reuse.prompt == ONE
    assert 0.5 < again.receipt.reuse.similarity < 1
    (seed,) = [one for one in again.receipt.parameters if one.name == "seed"]
    assert (seed.value, seed.disposition) == (first.outputs[0].seed, Disposition.DEFAULTED)
    assert "made before" in seed.explanation
    assert again.outputs[0].seed == first.outputs[0].seed
    assert again.receipt.recipe == first.receipt.recipe
    assert again.outputs[0].data == first.outputs[0].data
    assert describe(again)["prompt"] == ONE
    assert describe(own)["prompt"] == OTHER
    assert samples(server)[key("atelier_reused_outputs_total", engine="sound")] == 1
