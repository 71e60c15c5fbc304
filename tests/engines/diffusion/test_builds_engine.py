"""What an engine does at its start with builds that are there, absent or refused; and `atelier build`."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from atelier_engines.builds import BuildTarget
from atelier_engines.capabilities import Capabilities, Reproducibility
from atelier_engines.diffusion import ENGINE, DiffusionConfig, DiffusionEngine
from atelier_engines.errors import EngineUnavailableError
from atelier_server.commands.build import build


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, object]:
    """The small model, whose graphs are known, with its ControlNet on ONNX Runtime."""
    return {
        "device": "cpu",
        "runtime": {"controlnets": "onnx"},
        "builds_directory": str(tmp_path_factory.mktemp("small") / "builds"),
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


def test_absent_and_foreign_builds_have_fallbacks(
    settings: Mapping[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Torch runs the components; the log and the capabilities say why. Or the engine fails, as configured."""
    where = {**settings, "builds_directory": str(tmp_path)}
    place = tmp_path / only_target(where).digest
    place.mkdir()
    (place / "model.onnx").write_bytes(b"somebody else's")
    both = {"controlnets": "onnx", "text_encoders": "onnx"}
    found = start(where, runtime=both, on_missing_build="fallback")
    assert set(found.runtimes.values()) == {"torch"}
    reason = "the text_encoder is not built for onnx"
    assert found.runtime_fallbacks["text_encoders"] == reason
    assert "build of the ControlNet canny is refused" in found.runtime_fallbacks["controlnets"]
    assert "manifest.json is absent" in found.runtime_fallbacks["controlnets"]
    assert found.reproducibility is Reproducibility.BIT_EXACT
    assert "onnxruntime" not in found.versions
    records = [vars(one) for one in caplog.records if one.msg == "runtime_fallback_used"]
    assert [record["component"] for record in records] == ["text_encoders", "controlnets"]
    assert records[0]["reason"] == reason
    with pytest.raises(
        EngineUnavailableError, match=r"manifest.json is absent; run `atelier build`"
    ):
        start(where, on_missing_build="fail")


def test_command_builds_what_an_engine_then_opens(
    settings: Mapping[str, object], tmp_path: Path
) -> None:
    """And lists, verifies and removes it."""
    with pytest.raises(EngineUnavailableError, match="ControlNet canny is not built for onnx"):
        start(settings, on_missing_build="fail")
    absent = call(tmp_path, settings, "--verify")
    assert (absent.exit_code, "not built" in absent.output) == (1, True)
    built = call(tmp_path, settings)
    assert (built.exit_code, built.exception) == (0, None)
    assert "small ControlNet canny (1 of 1): exporting\n" in built.output
    assert "already built" in call(tmp_path, settings, "small").output
    found = start(settings, on_missing_build="fail")
    assert (found.runtimes["controlnets"], found.runtimes["denoiser"]) == ("onnx", "torch")
    assert not found.runtime_fallbacks
    digest = only_target(settings).digest
    for options in (["--list"], ["--verify", "small"]):
        listed = call(tmp_path, settings, *options)
        assert listed.exit_code == 0
        assert re.search(rf"small ControlNet canny: {digest[:12]}  \d+\.\d MB", listed.output)
    path = Path(str(settings["builds_directory"])) / digest / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    refused = call(tmp_path, settings, "--verify")
    assert (refused.exit_code, "model.onnx is damaged" in refused.output) == (1, True)
    assert call(tmp_path, settings, "--prune").output == ""
    pruned = call(tmp_path, {**settings, "runtime": "torch"}, "--prune")
    assert pruned.output == f"removed {path.parent}\n"
    assert not path.parent.exists()


def test_two_processes_build_each_network_once(tmp_path: Path) -> None:
    """Side by side: what one builds the other waits for, or finds."""
    path = tmp_path / "atelier.yaml"
    path.write_text(
        "engines: {small: {type: diffusion, device: cpu, runtime: {autoencoder: onnx}, "
        f"builds_directory: {tmp_path / 'builds'}}}}}",
        "utf-8",
    )
    command = [str(Path(sys.executable).with_name("atelier")), "build", "--config", str(path)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    for network in ("vae encoder", "vae decoder"):
        lines = [
            line.partition("): ")[2].partition(" in ")[0]
            for output in outputs
            for line in output.splitlines()
            if network in line
        ]
        assert lines.count("exporting") == lines.count("built") == 1
        assert lines.count("already built") == 1
    assert len(list((tmp_path / "builds").glob("*/manifest.json"))) == 2


def test_engine_without_onnx_builds_nothing(settings: Mapping[str, object], tmp_path: Path) -> None:
    """And says so."""
    made = call(tmp_path, {**settings, "runtime": "torch"})
    assert (made.exit_code, made.output) == (0, "small: nothing to build\n")
