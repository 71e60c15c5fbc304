"""Count the product's files that one Generate call passes through: `python scripts/trace_walk.py [sketch|diffusion]`.

The rule: a server of one engine runs in this process and answers the same request several times (64×64, 2 steps,
one fixed seed) before anything is counted, so that caches are warm. Then every Python function that starts between
sending the request and receiving the response is recorded, on all threads. A file counts if it belongs to
`atelier_server` or `atelier_engines` and one of its functions ran in each of the counted calls; what ran in some of
them only is background work, such as the periodic sweep. Module bodies (imports) and generated code do not count,
nor does the client. By this rule commit e1e41c4 gave 42 files for sketch and 59 for
diffusion, and commit 7513df3, which made the rooms, 30 and 45.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import yaml
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask
from atelier_server import app
from atelier_server.config.load import load

LIMITS: Mapping[str, int] = {"sketch": 38, "diffusion": 53}
"""The most files that a call through an engine of each type may pass."""

_PERIODIC = "atelier_server/sweep.py"  # may run during any call that takes a second
_PACKAGES = ("/atelier_server/", "/atelier_engines/")
_WARM_UP_CALLS = 2
_COUNTED_CALLS = 4


class Recorder:
    """A profile function for all threads; between calls of `recording` it does nothing."""

    def __init__(self) -> None:
        """Start with nothing recorded."""
        self._functions: dict[str, set[str]] | None = None

    def install(self) -> None:
        """Record this thread and every thread that starts from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    @contextmanager
    def recording(self) -> Iterator[dict[str, set[str]]]:
        """Yields the names of the functions that run inside, by file."""
        functions: dict[str, set[str]] = defaultdict(set)
        self._functions = functions
        try:
            yield functions
        finally:
            self._functions = None

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        functions, code = self._functions, frame.f_code
        if functions is not None and event == "call" and code.co_name != "<module>":
            package = next((name for name in _PACKAGES if name in code.co_filename), None)
            if package is not None:
                path = package.strip("/") + "/" + code.co_filename.rpartition(package)[2]
                functions[path].add(code.co_qualname)


async def walk(engine_type: str) -> Mapping[str, set[str]]:
    """The functions that every counted call through an engine of this type ran, by file."""
    recorder = Recorder()
    recorder.install()
    with tempfile.TemporaryDirectory() as directory:
        configuration = Path(directory) / "atelier.yaml"
        configuration.write_text(yaml.safe_dump(_settings(engine_type, Path(directory))))
        async with (
            app.running(load(configuration)) as address,
            aio.insecure_channel(address) as channel,
        ):
            stub = GenerationServiceStub(channel)
            await _wait_ready(channel)
            for _ in range(_WARM_UP_CALLS):
                await stub.Generate(_request())
            calls = []
            for _ in range(_COUNTED_CALLS):
                with recorder.recording() as functions:
                    await stub.Generate(_request())
                calls.append(functions)
    files = set.intersection(*(set(call) for call in calls))
    files.discard(_PERIODIC)
    return {file: set().union(*(call[file] for call in calls)) for file in sorted(files)}


async def _wait_ready(channel: aio.Channel) -> None:
    request = health_pb2.HealthCheckRequest(service="engine")
    stub: Any = health_pb2_grpc.HealthStub(channel)  # Watch is missing from its types
    async for response in stub.Watch(request):
        if response.status == health_pb2.HealthCheckResponse.SERVING:
            return


def _settings(engine_type: str, directory: Path) -> Mapping[str, object]:
    return {
        "listen": "127.0.0.1:0",
        "metrics": None,
        "data_dir": str(directory),
        "health_interval_seconds": 3600,
        "engines": {"engine": {"type": engine_type}},
    }


def _request() -> GenerateRequest:
    task = ImageTask(prompt="a lighthouse", width=64, height=64, steps=2, seed=7)
    return GenerateRequest(engine="engine", image=task, inline_outputs=True)


def main() -> None:
    """Print the files of each walk; end with 1 if a walk passes more than its limit."""
    too_long = False
    for engine_type in sys.argv[1:] or LIMITS:
        files = asyncio.run(walk(engine_type))
        functions = sum(len(names) for names in files.values())
        print(f"\n{engine_type}: {len(files)} files, {functions} functions")
        for file, names in files.items():
            print(f"  {file}: {len(names)} ({', '.join(sorted(names)[:4])} ...)")
        too_long = too_long or len(files) > LIMITS[engine_type]
    sys.exit(1 if too_long else 0)


if __name__ == "__main__":
    main()
