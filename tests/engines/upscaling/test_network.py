"""Networks enlarge pictures of any size, whatever the tiles, and only networks that enlarge are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from atelier_engines.errors import EngineUnavailableError, ModelMissingError, OutOfMemoryError
from atelier_engines.media import image_from_pixels
from atelier_engines.task import Upscale
from atelier_engines.upscaling import registry, weights
from atelier_engines.upscaling.config import UpscalerSettings
from atelier_engines.upscaling.lanczos import LanczosUpscaler, resize
from atelier_engines.upscaling.upscaler import TileDone
from tests.engines.upscaling.networks import apart, compact, loaded, picture, result_of, rrdb

WHOLE = 4096
"""A tile that holds every picture here."""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A compact network for twice the size."""
    return compact(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An RRDB network for four times the size."""
    return rrdb(tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("tile", [64, 96, 100])
def test_tiles_do_not_show_where_the_network_sees_less_than_overlaps_hide(
    small: Path, tile: int
) -> None:
    """It looks six pixels far, and eight are hidden: but for rounding, the whole picture at once."""
    pixels = picture(230, 170)
    told, tiled = result_of(loaded(small, tile=tile), pixels, 2.0)
    _, whole = result_of(loaded(small, tile=WHOLE), pixels, 2.0)
    assert len(told) > 1
    assert apart(tiled, whole) <= 1


@pytest.mark.parametrize("tile", [64, 96])
def test_tiles_hardly_show_where_the_network_sees_further(deep: Path, tile: int) -> None:
    """Within two levels of 255: what lies beyond the overlap hardly counts, and fading hides the rest."""
    pixels = picture(150, 110)
    told, tiled = result_of(loaded(deep, tile=tile), pixels, 4.0)
    _, whole = result_of(loaded(deep, tile=WHOLE), pixels, 4.0)
    assert len(told) > 1
    assert whole.array.std() > 20
    assert apart(tiled, whole) <= 2


@pytest.mark.parametrize("factor", [1.5, 2.0, 3.0, 4.0, 5.25])
def test_any_factor_is_reached_by_lanczos_after_the_network(deep: Path, factor: float) -> None:
    """From the network's own four times, down or up, but for a level of rounding."""
    pixels = picture(90, 70)
    _, made = result_of(loaded(deep), pixels, factor)
    assert (made.width, made.height) == (round(90 * factor), round(70 * factor))
    _, own = result_of(loaded(deep), pixels, 4.0)
    assert apart(made, resize(own, (made.width, made.height))) <= 1


def test_every_tile_is_told_of(small: Path) -> None:
    """Counting up to the total that was promised for the size."""
    upscaler = loaded(small)
    told, _ = result_of(upscaler, picture(150, 100), 2.0)
    total = upscaler.tile_count(150, 100)
    assert total == 12
    assert told == [TileDone(index=index, total=total) for index in range(1, total + 1)]


def test_closing_between_tiles_ends_the_work(small: Path) -> None:
    """The network sees no tile more."""
    upscaler = loaded(small)
    seen: list[object] = []
    network = upscaler.network
    network.model.register_forward_hook(lambda *_: seen.append(1))  # type: ignore[attr-defined]  # spandrel's types lack it
    work = upscaler.upscale(picture(150, 100), 2.0)
    next(work)
    next(work)
    work.close()
    assert len(seen) == 2


def test_pictures_smaller_than_a_network_takes_and_grey_ones_are_enlarged(small: Path) -> None:
    """One pixel too; a grey picture comes out as its copy in three channels does."""
    for width, height in ((1, 1), (3, 65)):
        _, made = result_of(loaded(small), picture(width, height), 2.0)
        assert made.array.shape == (2 * height, 2 * width, 3)
    grey = picture(40, 30, channels=1)
    coloured = type(grey)(array=np.repeat(grey.array, 3, axis=2))
    assert (
        apart(result_of(loaded(small), grey, 2.0)[1], result_of(loaded(small), coloured, 2.0)[1])
        == 0
    )


def test_a_network_works_in_the_precision_asked_for(small: Path) -> None:
    """bfloat16 has three digits: some levels away, and not the same."""
    settings = UpscalerSettings(upscalers={"it": small})
    coarse = weights.load(settings, device="cpu", precision="bfloat16")["it"]
    assert coarse.network.dtype is torch.bfloat16
    _, made = result_of(coarse, picture(60, 40), 2.0)
    _, exact = result_of(loaded(small), picture(60, 40), 2.0)
    assert 0 < apart(made, exact) <= 6


def test_a_tile_too_large_for_the_device_says_what_to_set(small: Path) -> None:
    """A system that has no such memory refuses it; the next picture works."""
    upscaler = loaded(small)

    def refuse(*_: object) -> None:
        torch.empty(2**62, dtype=torch.uint8)

    network = upscaler.network
    hook = network.model.register_forward_hook(refuse)  # type: ignore[attr-defined]  # spandrel's types lack it
    with pytest.raises(OutOfMemoryError, match="upscale_tile"):
        result_of(upscaler, picture(60, 40), 2.0)
    hook.remove()
    assert result_of(upscaler, picture(60, 40), 2.0)


def test_lanczos_enlarges_without_weights() -> None:
    """As Pillow does, in one part; grey stays grey."""
    upscaler = LanczosUpscaler()
    told, made = result_of(upscaler, picture(30, 20), 2.5)
    assert told == [TileDone(index=1, total=upscaler.tile_count(30, 20))]
    wanted = image_from_pixels(picture(30, 20)).resize((75, 50), 1)
    assert np.array_equal(made.array, np.asarray(wanted))
    _, grey = result_of(upscaler, picture(30, 20, channels=1), 2.0)
    assert grey.array.shape == (40, 60, 1)


def test_the_first_network_is_the_default_and_lanczos_always_there(small: Path, deep: Path) -> None:
    """Names in the order of the configuration; digests and packages for receipts."""
    settings = UpscalerSettings(upscalers={"deep": deep, "small": small})
    found = registry.load(settings, device="cpu", precision="auto")
    assert found.names == registry.names(settings) == ("deep", "small", "lanczos")
    assert found.get(Upscale(factor=2.0)) is found.by_name["deep"]
    assert found.get(Upscale(factor=2.0, model="small")) is found.by_name["small"]
    assert len(found.versions["upscaler deep"]) == 64
    assert {"pillow", "torch", "spandrel"} <= found.versions.keys()
    plain = registry.load(UpscalerSettings(), device="cpu", precision="auto")
    assert plain.names == ("lanczos",)
    assert isinstance(plain.get(Upscale(factor=2.0)), LanczosUpscaler)


def refused(path: Path) -> str:
    """Why the file is not loaded."""
    with pytest.raises(ModelMissingError) as error:
        loaded(path)
    return str(error.value)


def test_only_safetensors_are_read(small: Path, tmp_path: Path) -> None:
    """A pickle is refused by its name, and under a false name by its content; neither is run."""
    evidence = tmp_path / "ran"
    state = {**load_file(small), "trap": _Trap(evidence)}
    for name in ("x.pth", "x.pt", "x.ckpt", "x.safetensors"):
        torch.save(state, tmp_path / name)
        why = refused(tmp_path / name)
        assert str(tmp_path / name) in why
        assert "convert it" in why or name == "x.safetensors"
    assert not evidence.exists()


class _Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, evidence: Path) -> None:
        self.evidence = evidence

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        """What pickle calls on reading."""
        return Path.touch, (self.evidence,)


def test_files_that_are_absent_or_hold_something_else_are_refused(
    small: Path, tmp_path: Path
) -> None:
    """Each with a sentence that says which file, and what is wrong with it."""
    assert "there is no file" in refused(tmp_path / "absent.safetensors")
    whole = small.read_bytes()
    (tmp_path / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "cannot be used" in refused(tmp_path / "half.safetensors")
    assert "not for super-resolution" in refused(compact(tmp_path, scale=1))
    assert "RGB" in refused(compact(tmp_path, channels=1))
    save_file({"nothing.known": torch.zeros(3)}, tmp_path / "odd.safetensors")
    assert "cannot be used" in refused(tmp_path / "odd.safetensors")


@pytest.mark.parametrize("wrapper", ["params", "params_ema", "model", "state_dict", "net"])
def test_names_that_training_programs_put_before_tensors_are_removed(
    small: Path, tmp_path: Path, wrapper: str
) -> None:
    """Beside them there may be other things."""
    wrapped = {f"{wrapper}.{name}": tensor for name, tensor in load_file(small).items()}
    path = tmp_path / "wrapped.safetensors"
    save_file({**wrapped, "epoch": torch.tensor(7)}, path)
    pixels = picture(40, 30)
    (_, made), (_, wanted) = (result_of(loaded(one), pixels, 2.0) for one in (path, small))
    assert apart(made, wanted) == 0


def test_averaged_weights_are_used_before_others(small: Path, tmp_path: Path) -> None:
    """A file may have both; the average is what its makers publish."""
    tensors = load_file(small)
    both = {f"params_ema.{name}": tensor for name, tensor in tensors.items()}
    both |= {f"params.{name}": torch.zeros_like(tensor) for name, tensor in tensors.items()}
    save_file(both, tmp_path / "both.safetensors")
    pixels = picture(40, 30)
    _, made = result_of(loaded(tmp_path / "both.safetensors"), pixels, 2.0)
    assert apart(made, result_of(loaded(small), pixels, 2.0)[1]) == 0


def test_a_device_that_is_not_there_is_named(small: Path) -> None:
    """Whatever machine this is, it has no hundred GPUs."""
    settings = UpscalerSettings(upscalers={"it": small})
    with pytest.raises(EngineUnavailableError, match="cuda:99"):
        weights.load(settings, device="cuda:99", precision="auto")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"upscalers": {"lanczos": "x.safetensors"}}, "is built in"),
        ({"upscale_tile": 64, "upscale_overlap": 33}, "half"),
        ({"upscalers": {"a b": "x.safetensors"}}, "pattern"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    given: dict[str, object], why: str
) -> None:
    """When they are read, and not when a picture is enlarged."""
    with pytest.raises(ValidationError, match=why):
        UpscalerSettings.model_validate(given)


def test_lanczos_alone_needs_no_torch() -> None:
    """Nor does importing the engine's package."""
    program = (
        "import sys, asyncio; from atelier_engines.upscaling import ENGINE\n"
        "engine = ENGINE.create(ENGINE.config()); asyncio.run(engine.start())\n"
        "assert engine.capabilities.image.upscalers == ('lanczos',)\n"
        "sys.exit('torch' in sys.modules or 'spandrel' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.gpu
def test_a_gpu_gives_the_same_picture(deep: Path) -> None:
    """In float32 within a level; in float16, its default, within three."""
    pixels = picture(150, 110)
    _, wanted = result_of(loaded(deep), pixels, 4.0)
    for precision, tolerance in (("float32", 1), ("auto", 3)):
        settings = UpscalerSettings(upscalers={"it": deep}, upscale_tile=64, upscale_overlap=32)
        there = weights.load(settings, device="cuda", precision=precision)["it"]  # type: ignore[arg-type]  # one of its words
        assert not there.on_cpu
        assert apart(result_of(there, pixels, 4.0)[1], wanted) <= tolerance
