#!/usr/bin/env bash
# A server of connectrpc for Python drops misspelt fields of a JSON request, and compresses what cannot be compressed.
#
# Its JSON codec ignores fields that it does not know, unless another one is given. A response is compressed on the event
# loop whenever the caller accepts that, also where it is an image.
#
# Versions: connectrpc 0.13.0, protobuf 7.35.1, Python 3.11.7. Seen on 2026-11-28:
#   misspelt field: 200, the handler saw ''
#   incompressible MiB: content-encoding gzip
#
# What follows for Atelier: codecs of its own, and no compression (atelier_server/rpc/connect).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install connectrpc==0.13.0 protobuf==7.35.1

env/bin/python - <<'PYTHON' | tee seen.txt
import asyncio
import random

from connectrpc.compat import google_protobuf_codecs
from connectrpc.method import IdempotencyLevel, MethodInfo, StreamType
from connectrpc.server import ConnectASGIApplication, Endpoint
from google.protobuf.source_context_pb2 import SourceContext
from google.protobuf.wrappers_pb2 import BytesValue

seen = []


async def name(request, context):
    seen.append(request.file_name)
    return BytesValue(value=random.Random(1).randbytes(2**20))


METHOD = MethodInfo(
    name="Name", service_name="a.B", input=SourceContext, output=BytesValue,
    idempotency_level=IdempotencyLevel.UNKNOWN, stream_type=StreamType.UNARY,
)


class Application(ConnectASGIApplication):
    path = "/a.B"


APPLICATION = Application(
    service=None, endpoints=lambda _: {"/a.B/Name": Endpoint.unary(METHOD, name)}, codecs=google_protobuf_codecs()
)


async def post(body):
    sent = []
    left = asyncio.Event()
    bodies = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive():
        for message in bodies:
            return message
        await left.wait()

    async def send(message):
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"accept-encoding", b"gzip")]
    scope = {"type": "http", "method": "POST", "path": "/a.B/Name", "root_path": "", "headers": headers}
    await APPLICATION(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


async def main():
    status, headers = await post(b'{"fileNmae":"x"}')
    print(f"misspelt field: {status}, the handler saw {seen[-1]!r}")
    print(f"incompressible MiB: content-encoding {headers[b'content-encoding'].decode()}")


asyncio.run(main())
PYTHON
grep -q "^misspelt field: 200, the handler saw ''" seen.txt
grep -q "content-encoding gzip" seen.txt
