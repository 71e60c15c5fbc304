#!/usr/bin/env bash
# Each call of a grpc.aio server costs in proportion to the number of the server's methods, also of those nobody calls.
#
# Generated code registers every method of a service. For each of them the server has a task that waits for its next
# call, and whenever one comes, `asyncio.wait` adds a callback to all of these tasks and removes it again. Handlers
# that are added as generic ones alone answer the same calls, and are waited for by one task.
#
# Versions: grpcio 1.85.1, Python 3.11.7. Seen on 2026-11-28, with 100 calls of one method:
#   1 method registered: 2 tasks are waited for at each call
#   64 methods registered: 65 tasks are waited for at each call
#   64 methods, generic handlers alone: 1 task is waited for at each call
#
# What follows for Atelier: it adds generic handlers alone (atelier_server/rpc/server.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install grpcio==1.85.1

env/bin/python - <<'PYTHON' | tee seen.txt
import asyncio

import grpc
from grpc import aio

waited = []
wait = asyncio.wait


async def counting_wait(tasks, **options):
    waited.append(len(tasks))
    return await wait(tasks, **options)


asyncio.wait = counting_wait


async def answer(request, context):
    return b""


async def serve(methods, registered):
    server = aio.server()
    handlers = {f"Method{number}": grpc.unary_unary_rpc_method_handler(answer) for number in range(methods)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("a.B", handlers),))
    if registered:
        server.add_registered_method_handlers("a.B", handlers)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/a.B/Method0")
        await call(b"")
        waited.clear()
        for _ in range(100):
            await call(b"")
    await server.stop(None)
    return max(waited)


async def main():
    print(f"1 method registered: {await serve(1, True)} tasks are waited for at each call")
    print(f"64 methods registered: {await serve(64, True)} tasks are waited for at each call")
    print(f"64 methods, generic handlers alone: {await serve(64, False)} task is waited for at each call")


asyncio.run(main())
PYTHON
grep -q "^1 method registered: 2 tasks" seen.txt
grep -q "^64 methods registered: 65 tasks" seen.txt
grep -q "^64 methods, generic handlers alone: 1 task " seen.txt
