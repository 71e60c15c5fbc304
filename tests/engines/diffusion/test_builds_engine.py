"""What an engine does at its start with builds that are there, absent or refused; and `atelier build`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from atelier_engines.builds import BuildTarget
from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.diffusion import ENGINE, DiffusionConfig, DiffusionEngine
from atelier_engines.errors import EngineUnavailableError
from atelier_server.commands.build import build
from tests.engines.diffusion import tiny_sd


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, object]:
    """The smallest model, whose text encoder runs on ONNX Runtime."""
    folder = tmp_path_factory.mktemp("small")
    return {
        "model": str(tiny_sd.write(folder, "sd15")),
        "device": "cpu",
        "runtime": {"text_encoders": "onnx"},
        "builds_directory": str(folder / "builds"),
    }


def start(settings: Mapping[str, object], **changes: object) -> Capabilities:
    """Start an engine and stop it; its capabilities once it was ready."""
    engine = DiffusionEngine(DiffusionConfig.model_validate({**settings, **changes}))

    async def run() -> Capabilities:
        try:
            await engine.start()
            return engine.capabilities
        finally:
            await engine.stop()

    return asyncio.run(run())


def only_target(settings: Mapping[str, object]) -> BuildTarget:
    """The one build that the settings need."""
    assert ENGINE.builds is not None
    (target,) = ENGINE.builds(DiffusionConfig.model_validate(settings)).targets
    return target


def call(tmp_path: Path, settings: Mapping[str, object], *options: str) -> Result:
    """Run the command with a configuration of the engine, and one that builds nothing."""
    path = tmp_path / "atelier.yaml"
    lines = [f"    {key}: {value}" for key, value in settings.items()]
    text = ["engines:", "  sketch: {type: sketch}", "  small:", "    type: diffusion", *lines]
    path.write_text("\n".join(text).replace("'", ""), "utf-8")
    return CliRunner().invoke(build, ["--config", str(path), *options])


def test_absent_build_has_a_fallback(
    settings: Mapping[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch runs the component; the log and the capabilities say so."""
    found = start(settings, builds_directory=str(tmp_path), on_missing_build="fallback")
    assert found.runtimes["text_encoders"] == "torch"
    reason = "the text_encoder is not built for onnx"
    assert found.runtime_fallbacks == {"text_encoders": reason}
    assert found.reproducibility is Reproducibility.BIT_EXACT
    assert "onnxruntime" not in found.versions
    (record,) = [one for one in caplog.records if one.msg == "runtime_fallback_used"]
    assert (vars(record)["component"], vars(record)["reason"]) == ("text_encoders", reason)


def test_foreign_build_is_refused(settings: Mapping[str, object], tmp_path: Path) -> None:
    """Whatever lies in its place; the engine falls back, or fails where that is configured."""
    where = {**settings, "builds_directory": str(tmp_path)}
    place = tmp_path / only_target(where).digest
    place.mkdir()
    (place / "model.onnx").write_bytes(b"somebody else's")
    found = start(where, on_missing_build="fallback")
    assert "build of the text_encoder is refused" in found.runtime_fallbacks["text_encoders"]
    assert "manifest.json is absent" in found.runtime_fallbacks["text_encoders"]
    with pytest.raises(
        EngineUnavailableError, match=r"manifest.json is absent; run `atelier build`"
    ):
        start(where, on_missing_build="fail")


def test_command_builds_what_an_engine_then_opens(
    settings: Mapping[str, object], tmp_path: Path
) -> None:
    """And lists, verifies and removes it."""
    with pytest.raises(EngineUnavailableError, match="text_encoder is not built for onnx"):
        start(settings, on_missing_build="fail")
    absent = call(tmp_path, settings, "--verify")
    assert (absent.exit_code, "not built" in absent.output) == (1, True)
    built = call(tmp_path, settings)
    assert (built.exit_code, built.exception) == (0, None)
    assert "small text_encoder (1 of 1): exporting\n" in built.output
    assert "already built" in call(tmp_path, settings, "small").output
    found = start(settings, on_missing_build="fail")
    assert (found.runtimes["text_encoders"], found.runtimes["denoiser"]) == ("onnx", "torch")
    assert not found.runtime_fallbacks
    digest = only_target(settings).digest
    for options in (["--list"], ["--verify", "small"]):
        listed = call(tmp_path, settings, *options)
        assert listed.exit_code == 0
        assert re.search(rf"small text_encoder: {digest[:12]}  0\.\d MB", listed.output)
    path = Path(str(settings["builds_directory"])) / digest / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refused = call(tmp_path, settings, "--verify")
    assert (refused.exit_code, "model.onnx is damaged" in refused.output) == (1, True)
    assert call(tmp_path, settings, "--prune").output == ""
    pruned = call(tmp_path, {**settings, "runtime": "torch"}, "--prune")
    assert pruned.output == f"removed {path.parent}\n"
    assert not path.parent.exists()


def test_engine_without_onnx_builds_nothing(settings: Mapping[str, object], tmp_path: Path) -> None:
    """And says so."""
    made = call(tmp_path, {**settings, "runtime": "torch"})
    assert (made.exit_code, made.output) == (0, "small: nothing to build\n")
