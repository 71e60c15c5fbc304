#!/usr/bin/env bash
# With a key that an S3 server does not know, obstore says that the object does not exist.
#
# The Versity S3 gateway answers an unknown access key with status 404 and the code XAdminUserNotFound (Amazon S3: 403,
# InvalidAccessKeyId). obstore decides by the status: `get` and `delete` raise FileNotFoundError, the error of a missing
# object. A program that takes it for "there is no such object", as is usual after `delete`, never hears that its key is
# wrong. A wrong secret is PermissionDeniedError, as expected.
#
# Versions: obstore 0.12.1, versitygw 1.8.0, Python 3.11.7. Seen on 2026-11-28, on an object that exists:
#   right key: get gives 5 bytes
#   wrong secret: get raises PermissionDeniedError
#   unknown key: get raises FileNotFoundError with the code XAdminUserNotFound
#   unknown key: delete raises FileNotFoundError with the code XAdminUserNotFound, and the object is there
#
# What follows for Atelier: the code in a store's answer decides what is missing, not the type of the error
# (atelier_server/artifacts/blobs/bucket.py; tests/artifacts/test_bucket_blob_store.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install obstore==0.12.1
GOBIN=$folder go install github.com/versity/versitygw/cmd/versitygw@v1.8.0

port=$(env/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir -p objects/media
ROOT_ACCESS_KEY=known ROOT_SECRET_KEY=right ./versitygw --port "127.0.0.1:$port" --health /health --quiet posix objects >/dev/null &
server=$!
env/bin/python - "$port" <<'PYTHON' | tee seen.txt
import sys
import time
import urllib.request

from obstore.store import S3Store

address = f"http://127.0.0.1:{sys.argv[1]}"
for _ in range(600):
    try:
        urllib.request.urlopen(f"{address}/health", timeout=5)
        break
    except OSError:
        time.sleep(0.1)


def store(key, secret):
    return S3Store(
        "media",
        endpoint=address,
        region="us-east-1",
        access_key_id=key,
        secret_access_key=secret,
        client_options={"allow_http": True},
        virtual_hosted_style_request=False,
    )


def attempt(call, name):
    try:
        result = getattr(call, name)("object")
    except Exception as error:
        code = " with the code XAdminUserNotFound" if "XAdminUserNotFound" in str(error) else ""
        return f"{name} raises {type(error).__name__}{code}"
    return f"get gives {len(result.bytes())} bytes" if name == "get" else f"{name} succeeds"


right = store("known", "right")
right.put("object", b"bytes")
print("right key:", attempt(right, "get"))
print("wrong secret:", attempt(store("known", "wrong"), "get"))
print("unknown key:", attempt(store("unknown", "right"), "get"))
deleted = attempt(store("unknown", "right"), "delete")
there = "there" if attempt(right, "get") == "get gives 5 bytes" else "gone"
print(f"unknown key: {deleted}, and the object is {there}")
PYTHON

diff seen.txt - <<'SEEN'
right key: get gives 5 bytes
wrong secret: get raises PermissionDeniedError
unknown key: get raises FileNotFoundError with the code XAdminUserNotFound
unknown key: delete raises FileNotFoundError with the code XAdminUserNotFound, and the object is there
SEEN
echo "as seen"
