"""Kills a server before each of its writes, one after the other: `killed_between_writes.py DIRECTORY new|recycled`.

A process for each kill serves the same directory, finds what the one before left, and then is killed while it makes a
generation: before the first write, before the second, and so on, until one is not killed. Writes are statements of
SQLite, files that are opened for writing, renamed or deleted, and writes to descriptors; nothing of the server knows.
With `recycled` the output overwrites the file of a deleted one.

Prints a line of JSON for each generation: whether it was accepted when its process was killed, and what became of it;
at the end one for the process that was not. They are forked, so that none has to import the server.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_pb2 import AttemptOutcome, Generation, State
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import ImageTask
from atelier_server.app import running
from atelier_server.config.load import load

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = frozenset({"os.rename", "os.remove", "os.truncate", "os.mkdir", "os.rmdir"})


class Killer:
    """Kills this process before a write."""

    def __init__(self, folder: Path) -> None:
        """Watch writes of SQLite, to descriptors, and to names in the folder; count none of them yet."""
        self._folder = str(folder)
        self._left = 0
        self._lock = threading.Lock()
        os.write, os.pwrite = self._counted(os.write), self._counted(os.pwrite)
        sqlite3.connect = self._traced(sqlite3.connect)
        sys.addaudithook(self._audit)

    def kill_before(self, number: int) -> None:
        """Kill before the write of that number, from now on and from 1."""
        with self._lock:
            self._left = number

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & _WRITING and str(path).startswith(self._folder):
                self._count()
        elif event in _CHANGES and str(arguments[0]).startswith(self._folder):
            self._count()

    def _traced(self, connect: Callable[..., sqlite3.Connection]) -> Any:  # noqa: ANN401 (of the function that it stands for)
        def connect_and_trace(*arguments: Any, **options: Any) -> sqlite3.Connection:  # noqa: ANN401 (likewise)
            connection = connect(*arguments, **options)
            connection.set_trace_callback(lambda _: self._count())
            return connection

        return connect_and_trace

    def _counted(self, write: Callable[..., int]) -> Callable[..., int]:
        def count_and_write(*arguments: Any) -> int:  # noqa: ANN401 (of the function that it stands for)
            self._count()
            return write(*arguments)

        return count_and_write

    def _count(self) -> None:
        with self._lock:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def serve(folder: Path, number: int, killer: Killer, *, recycled: bool) -> None:
    """Find what the process before left, then be killed while a generation is made; return if that survives."""
    settings = load(
        None,
        engines={"sketch": {"type": "sketch", "output_bytes": 8192}},
        data_dir=folder,
        listen="127.0.0.1:0",
        metrics=None,
        drain_seconds=0,
        log={"level": "error"},
    )
    async with running(settings) as address, aio.insecure_channel(address) as channel:
        stub = GenerationServiceStub(channel)
        if number > 1:
            _print(await _examine(stub, folder, number - 1))
        if recycled:
            await _leave_file(stub)
        killer.kill_before(number)
        await _generate(stub, number)
        killer.kill_before(0)


async def _leave_file(stub: Any) -> None:  # noqa: ANN401 (an asynchronous stub)
    """Have the server delete a file: that of an upload with the wrong digest."""
    header = UploadHeader(media_type="image/png", sha256="0" * 64)
    parts = pb.UploadArtifactRequest(header=header), pb.UploadArtifactRequest(chunk=bytes(100))
    with suppress(aio.AioRpcError):
        await stub.UploadArtifact(iter(parts))


async def _generate(stub: Any, number: int) -> Generation:  # noqa: ANN401 (an asynchronous stub)
    task = ImageTask(prompt="a lighthouse", width=64, height=64, steps=2, seed=number)
    request = pb.GenerateRequest(
        request_id=str(number), engine="sketch", image=task, inline_outputs=True
    )
    answer: pb.GenerateResponse = await stub.Generate(request, wait_for_ready=True)
    return answer.generation


async def _examine(stub: Any, folder: Path, number: int) -> dict[str, object]:  # noqa: ANN401 (an asynchronous stub)
    """What became of the generation of the process before, when its caller asks again."""
    before = await _list(stub)
    generation = await _generate(stub, number)
    after = await _list(stub)
    (output,) = generation.outputs
    outcomes = [attempt.outcome for attempt in generation.receipt.attempts]
    artifacts = {output.artifact.id for each in after for output in each.outputs}
    return {
        "number": number,
        "accepted_before": number in {int(each.request_id) for each in before},
        "generations": len(after),
        "succeeded": all(each.state == State.STATE_SUCCEEDED for each in after),
        "successes": outcomes.count(AttemptOutcome.ATTEMPT_OUTCOME_SUCCEEDED),
        "attempts": len(outcomes),
        "intact": hashlib.sha256(output.data).hexdigest() == output.artifact.sha256,
        "blobs_without_record": sorted(_list_blobs(folder) - artifacts),
        "records_without_blob": sorted(artifacts - _list_blobs(folder)),
    }


async def _list(stub: Any) -> list[Generation]:  # noqa: ANN401 (an asynchronous stub)
    answer = await stub.ListGenerations(pb.ListGenerationsRequest(page_size=200))
    return list(answer.generations)


def _list_blobs(folder: Path) -> set[str]:
    return {path.name for path in (folder / "artifacts").iterdir() if path.is_file()}


def _print(found: dict[str, object]) -> None:
    sys.stdout.write(f"{json.dumps(found)}\n")
    sys.stdout.flush()


def main() -> None:
    """Fork one process after the other until one survives."""
    folder = Path(sys.argv[1])
    number, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        number += 1
        child = os.fork()
        if child == 0:
            asyncio.run(serve(folder, number, Killer(folder), recycled=sys.argv[2] == "recycled"))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _print({"survivor": number, "status": status})


if __name__ == "__main__":
    main()
