"""A caller learns of every candidate, and can make the one that was returned again."""

from __future__ import annotations

from pathlib import Path

from atelier_client import AudioTask, Client
from atelier_client.results import Generation
from tests.conftest import StartServer
from tests.engines.audio_diffusion import tiny_clap
from tests.engines.audio_diffusion.test_reuse_served import describe
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux


def test_the_receipt_has_all_scores_and_the_file_the_seed_of_the_best(
    start_server: StartServer, tangoflux: TinyTangoFlux, tmp_path: Path
) -> None:
    """A task with that seed and one candidate gives the same bytes; after the largest seed comes 0."""
    server = start_server(
        engines={
            "sound": {
                "type": "tangoflux",
                **tangoflux.settings,
                "prompt_match": {"model": str(tiny_clap.write(tmp_path / "clap"))},
            }
        }
    )
    with Client(server.address) as client:

        def made(seed: int, candidates: int) -> Generation:
            asked = AudioTask(
                prompt="rain",
                duration_seconds=0.5,
                steps=2,
                seed=seed,
                candidates=candidates,
            )
            return client.generate(asked, engine="sound")

        best, last = made(5, 3), made(2**63 - 1, 2)
        again = made(best.outputs[0].seed, 1)
    (output,) = best.outputs
    assert best.receipt is not None
    told = {one.name: one for one in best.receipt.parameters}
    assert told["candidates"].value == 3
    assert told["candidates"].explanation.startswith("prompt match: seed 5 ")
    assert told["candidates"].explanation.endswith(f"of seed {output.seed}")
    assert str(output.seed) in told["seed"].explanation
    assert output.seed in range(5, 8)
    assert best.receipt.recipe is not None
    assert list(best.receipt.recipe.seeds) == [5]
    assert describe(best)["seed"] == output.seed
    assert again.outputs[0].data == output.data
    assert last.receipt is not None
    (told_last,) = [one for one in last.receipt.parameters if one.name == "candidates"]
    assert told_last.explanation.startswith("prompt match: seed 0 ")
    assert f"seed {2**63 - 1} " in told_last.explanation
    assert last.outputs[0].seed in (0, 2**63 - 1)
