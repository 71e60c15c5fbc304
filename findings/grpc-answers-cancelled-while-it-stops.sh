#!/usr/bin/env bash
# A call that reaches a gRPC server while it stops ends as CANCELLED, as if its caller had cancelled it.
#
# Nothing of the call was done, and no handler saw it: UNAVAILABLE would say so, and it is the status that retry
# policies name. CANCELLED is not retried by them, and programs take it for their own cancellation, or for that of the
# work. It has no details that tell it from either.
#
# Versions: grpcio 1.85.1. Seen on 2026-11-28, 30 callers that repeat a call of a millisecond, 20 servers that stop:
#   CANCELLED: some, UNAVAILABLE: some, other codes: none
#   (463 and 1,209 in one run)
#
# What follows for Atelier: its Python client repeats a call that ends as CANCELLED without a reason
# (clients/python/atelier_client/status.py, tests/client/test_errors.py), and docs/errors.md tells others to.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install grpcio==1.85.1 2>/dev/null

env/bin/python - 2>errors.txt <<'PYTHON' | tee seen.txt
import asyncio
from collections import Counter

import grpc
from grpc import aio


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        async def answer(request, context):
            await asyncio.sleep(0.001)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


async def repeat(call, codes, stopped):
    while not stopped.is_set():
        try:
            await call(b"", timeout=5)
        except aio.AioRpcError as error:
            codes[error.code().name] += 1


async def stop_under_load(codes):
    server = aio.server(handlers=[Service()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call, stopped = channel.unary_unary("/finding/Ask"), asyncio.Event()
        await call(b"")
        callers = [asyncio.create_task(repeat(call, codes, stopped)) for _ in range(30)]
        await asyncio.sleep(0.05)
        await server.stop(0.3)
        stopped.set()
        await asyncio.gather(*callers)


async def main():
    codes = Counter()
    for _ in range(20):
        await stop_under_load(codes)
    said = [f"{code}: {'some' if codes.pop(code, 0) else 'none'}" for code in ("CANCELLED", "UNAVAILABLE")]
    print(f"{', '.join(said)}, other codes: {'some' if codes else 'none'}")


asyncio.run(main())
PYTHON
grep -qx "CANCELLED: some, UNAVAILABLE: some, other codes: none" seen.txt
