"""A server without local models is light: it imports none of their libraries."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "torch",
    "diffusers",
    "transformers",
    "accelerate",
    "safetensors",
    "tensorrt",
    "hibari",
    "onnxruntime",
}

SERVE = """
import asyncio, json, sys
from pathlib import Path
from grpc import aio
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask
from atelier_server import app
from atelier_server.config.load import load

async def main():
    settings = load(Path(sys.argv[1]))
    async with app.running(settings) as address, aio.insecure_channel(address) as channel:
        task = ImageTask(prompt="a lighthouse", width=64, height=64)
        request = GenerateRequest(image=task)
        made = await GenerationServiceStub(channel).Generate(request, wait_for_ready=True)
        assert made.generation.outputs

asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""


def modules_after(program: str, *arguments: str) -> set[str]:
    """Top-level names of all that the program has imported when it ends."""
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, check=True, timeout=300
    )
    return {name.partition(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.parametrize("package", ["atelier_server", "atelier_server.app", "atelier_engines"])
def test_importing_the_server_imports_no_model_library(package: str) -> None:
    """Nor does what everything else stands on."""
    program = f"import json, sys, {package}; print(json.dumps(sorted(sys.modules)))"
    assert not HEAVY & modules_after(program)


AUDIO = """
import json, sys
from atelier_engines import registry
for kind in ("speech", "stable_audio", "stable_audio_3", "tangoflux"):
    found = registry.load(kind)
    engine = found.create(found.config())
    assert engine.capabilities.audio.models[0].license
    if found.weights is not None:
        found.weights(found.config())
print(json.dumps(sorted(sys.modules)))
"""


def test_configured_audio_engines_import_no_model_library_before_they_start() -> None:
    """Their settings, capabilities and lists of weights need none."""
    assert not HEAVY & modules_after(AUDIO)


def test_serving_without_local_models_imports_no_model_library(tmp_path: Path) -> None:
    """Start, serve an image, stop; an engine type that needs them may be installed."""
    (tmp_path / "data").mkdir()
    config = tmp_path / "atelier.yaml"
    config.write_text(
        "listen: 127.0.0.1:0\nmetrics: null\n"
        f"data_dir: {tmp_path / 'data'}\nengines: {{sketch: {{type: sketch}}}}\n"
    )
    loaded = modules_after(SERVE, str(config))
    assert "atelier_server" in loaded
    assert not HEAVY & loaded
