#!/usr/bin/env bash
# A server on gRPC is told a later deadline than the one its caller has: up to a second of 300, ten of 2,000.
#
# The protocol carries a deadline as a number and a unit, and allows eight digits. gRPC's C core sends three or four,
# rounded up: tenths of a second from 10 s on, seconds from 100 s on, then tens of seconds. So `time_remaining()` in a
# handler exceeds the timeout of the call, and the caller gives up while the server still believes that it has time.
#
# Versions: grpcio 1.85.1. Seen on 2026-11-28 (timeout of the call: what the server has left, in tenths of a second):
#   50.0: 50.1
#   300.0: 301.0
#   2000.5: 2010.0
#
# What follows for Atelier: a deadline of a call is compared with nothing more exact than that
# (tests/server/test_interceptors.py); who needs an exact limit sets `timeout` in the request.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install grpcio==1.85.1 2>/dev/null

env/bin/python - <<'PYTHON' | tee seen.txt
from concurrent.futures import ThreadPoolExecutor

import grpc

left = []


def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
    left.append(context.time_remaining())
    return b""


class Service(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.unary_unary_rpc_method_handler(answer)


server = grpc.server(ThreadPoolExecutor(1), handlers=[Service()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
    call = channel.unary_unary("/finding/Ask")
    call(b"", wait_for_ready=True)
    for timeout in (50.0, 300.0, 2000.5):
        call(b"", timeout=timeout)
        print(f"{timeout}: {left[-1]:.1f}")
server.stop(None)
PYTHON
grep -qx "50.0: 50.1" seen.txt
grep -qx "300.0: 301.0" seen.txt
grep -qx "2000.5: 2010.0" seen.txt
