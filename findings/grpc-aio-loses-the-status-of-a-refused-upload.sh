#!/usr/bin/env bash
# A server that refuses an upload early is often not heard by grpc.aio: the call ends as INTERNAL.
#
# The message that grpc.aio is sending when the status arrives cannot be sent any more. It then gives the call the status
# INTERNAL, "Internal error from Core", in the place of the status that it has already received. The code, the text and
# the details of the server are lost, and with them whether another attempt can help.
#
# Versions: grpcio 1.85.1. Seen on 2026-11-28, 200 uploads of 8 MiB that the server refuses with UNAUTHENTICATED at once:
#   UNAUTHENTICATED: some, INTERNAL: some, other codes: none
#   (one after the other, 41 in 100 were INTERNAL on one machine)
#
# What follows for Atelier: its asynchronous client keeps the first status of an upload
# (clients/python/atelier_client/kept_status.py, tests/client/test_refused_uploads.py).
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

PARTS = [bytes(2**19)] * 16


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        async def refuse(requests, context):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

        return grpc.stream_unary_rpc_method_handler(refuse)


async def main():
    server = aio.server(handlers=[Service()])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    codes = Counter()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(200):
            try:
                await channel.stream_unary("/finding/Upload")(iter(PARTS))
            except aio.AioRpcError as error:
                codes[error.code().name] += 1
    await server.stop(None)
    said = [f"{code}: {'some' if codes.pop(code, 0) else 'none'}" for code in ("UNAUTHENTICATED", "INTERNAL")]
    print(f"{', '.join(said)}, other codes: {'some' if codes else 'none'}")


asyncio.run(main())
PYTHON
grep -qx "UNAUTHENTICATED: some, INTERNAL: some, other codes: none" seen.txt
