"""A client in a process of its own: `python -m bench.client_process ADDRESS plain|large`.

Each line of its input names work; each line of its output is JSON with the seconds that it took and the CPU time.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import TYPE_CHECKING

from bench.artifacts import download, upload
from bench.calls import measure_rate, open_stub

if TYPE_CHECKING:
    from bench.calls import Stub

CALLS = 80
"""Generations of 1 MiB in the work `generate`."""
CALLERS = 8
TRANSFERRED = 64 * 2**20
"""Bytes of the artifact in the work `transfer`, which goes up and comes down."""


async def _serve(address: str, *, large_frames: bool) -> None:
    data = os.urandom(TRANSFERRED)
    async with open_stub(address, large_frames=large_frames) as stub:
        while work := (await asyncio.to_thread(sys.stdin.readline)).strip():
            start, used = time.perf_counter(), time.process_time()
            await _do(stub, work, data)
            done = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - used}
            print(json.dumps(done), flush=True)


async def _do(stub: Stub, work: str, data: bytes) -> None:
    if work == "generate":
        await measure_rate(stub, callers=CALLERS, calls=CALLS)
    else:
        _, artifact_id = await upload(stub, data)
        await download(stub, artifact_id, data)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], large_frames=sys.argv[2] == "large"))
