"""`atelier models`, run as people run it, on a machine without a network."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.client.atelier_command import Finished, atelier
from tests.engines.diffusion import tiny_sd

HUB_ID = "somebody/small-model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model directory to spoil."""
    return tiny_sd.write(tmp_path, "sd15")


@pytest.fixture
def hub(folder: Path, tmp_path: Path) -> Path:
    """A hub's local cache with the model in it: each large file lies under its SHA-256."""
    home = tmp_path / "hub"
    stored = home / "models--somebody--small-model"
    snapshot = stored / "snapshots" / ("1" * 40)
    (stored / "blobs").mkdir(parents=True)
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text("1" * 40, "ascii")
    for path in (path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        blob = stored / "blobs" / hashlib.sha256(data).hexdigest()
        blob.write_bytes(data)
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    return home


def configured(tmp_path: Path, **model: object) -> Path:
    """A configuration with an engine `small` and one that needs no weights."""
    path = tmp_path / "atelier.yaml"
    lines = [f"    {key}: {value}" for key, value in model.items()]
    text = ["engines:", "  sketch: {type: sketch}", "  small:", "    type: diffusion", *lines]
    path.write_text("\n".join(text), "utf-8")
    return path


async def models(action: str, config: Path, *more: str, hub: Path = Path("/none")) -> Finished:
    """Run one of the commands, with a hub's local cache and no network."""
    return await atelier(
        "models",
        action,
        "--config",
        config,
        *more,
        HF_HUB_OFFLINE="1",
        HF_HUB_CACHE=str(hub),
    )


def flip_a_bit(hub: Path) -> None:
    """In the last weight of the denoiser."""
    weights = next(hub.rglob("unet/*.safetensors")).resolve()
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


async def test_list_tells_what_there_is(folder: Path, tmp_path: Path) -> None:
    """Family, size, digest; engines without weights are left out."""
    done = await models("list", configured(tmp_path, model=folder, preview_model="/gone"))
    assert done.code == 0
    model, preview = done.out.splitlines()
    name, family, notes, size, digest = model.split("  ")
    assert (name, family) == (f"small model: {folder}", "sd15")
    assert notes == "epsilon by scheduler/scheduler_config.json, scheduler PNDMScheduler"
    assert size.endswith(" MB")
    assert len(digest) == 64
    assert preview.startswith("small preview_model: /gone  missing: there is no directory /gone")
    quick = await models("list", configured(tmp_path, model=folder), "--no-digest")
    assert quick.out.splitlines() == [f"small model: {folder}  sd15  {notes}  {size}"]


async def test_verify_is_content_with_whole_weights_and_the_right_pin(
    folder: Path, tmp_path: Path
) -> None:
    """The digest that `list` shows is the one to pin."""
    listed = await models("list", configured(tmp_path, model=folder))
    digest = listed.out.split()[-1]
    done = await models("verify", configured(tmp_path, model=folder, digest=digest))
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("ok\n")


async def test_verify_names_what_is_wrong_and_ends_with_1(folder: Path, tmp_path: Path) -> None:
    """One line for each trouble."""
    pin = "ab" * 32
    done = await models("verify", configured(tmp_path, model=folder, digest=pin))
    assert done.code == 1
    assert f"and not {pin}, which is configured" in done.err
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    done = await models("verify", configured(tmp_path, model=folder))
    assert done.code == 1
    trouble, summary = done.err.splitlines()
    assert trouble.startswith(f"small model: {folder}: {weights} has ")
    assert "1 of the weights" in summary


async def test_what_lies_in_the_hubs_cache_is_found_and_verified(hub: Path, tmp_path: Path) -> None:
    """The cache itself knows the digest of each large file."""
    config = configured(tmp_path, model=HUB_ID)
    for action in ("pull", "list", "verify"):
        done = await models(action, config, hub=hub)
        assert done.code == 0
        assert done.out.startswith(f"small model: {HUB_ID}")
    flip_a_bit(hub)
    done = await models("verify", config, hub=hub)
    assert done.code == 1
    assert "that the hub has; delete" in done.err


async def test_what_cannot_be_had_is_one_line(tmp_path: Path) -> None:
    """`pull` says what it tried."""
    config = configured(tmp_path, model="nobody/has-this-model")
    done = await models("pull", config, hub=tmp_path / "empty")
    assert done.code == 1
    assert "nobody/has-this-model" in done.err.splitlines()[0]
    assert "Traceback" not in done.err


async def test_engines_can_be_named(folder: Path, tmp_path: Path) -> None:
    """And a name that is none is wrong usage."""
    config = configured(tmp_path, model=folder)
    assert (await models("verify", config, "sketch")).out == ""
    done = await models("verify", config, "smal")
    assert done.code == 2
    assert "no engine 'smal'; there are sketch, small; did you mean 'small'?" in done.err


async def test_without_a_configuration_it_is_the_small_model() -> None:
    """As the server has it then."""
    done = await atelier("models", "verify")
    assert done.code == 0
    assert done.out.startswith("tiny model: atelier-tiny")


async def test_a_configuration_that_cannot_be_used_ends_with_2(tmp_path: Path) -> None:
    """As everywhere."""
    done = await models("list", configured(tmp_path, modle="x"))
    assert done.code == 2
    assert "engines.small.modle: unknown key" in done.err
