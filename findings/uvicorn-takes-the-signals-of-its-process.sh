#!/usr/bin/env bash
# uvicorn, served inside another program's event loop, stops by itself at SIGTERM and SIGINT.
#
# `Server.serve` catches both while it runs, also where the program has handlers in the same loop and may want to finish
# its work before anything closes. It raises the signal again when it has ended.
#
# Versions: uvicorn 0.54.0, Python 3.11.7. Seen on 2026-11-28:
#   handlers called at SIGTERM: uvicorn and the program
#   with an empty capture_signals: the program
#
# What follows for Atelier: it overrides capture_signals (atelier_server/rpc/connect/http_server.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install uvicorn==0.54.0

cat > serve.py <<'PYTHON'
import asyncio
import contextlib
import os
import signal
import socket
import sys

import uvicorn


class Quiet(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
        yield


async def main(kind):
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    server = kind(uvicorn.Config(lambda *_: None, interface="asgi3", lifespan="off", log_config=None))
    serving = asyncio.create_task(server.serve(sockets=[socket.create_server(("127.0.0.1", 0))]))
    while not server.started:
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.sleep(0.3)
    names = [name for name, called in (("uvicorn", server.should_exit), ("the program", told.is_set())) if called]
    print(" and ".join(names), flush=True)
    os._exit(0)


asyncio.run(main({"taken": uvicorn.Server, "left": Quiet}[sys.argv[1]]))
PYTHON
echo "handlers called at SIGTERM: $(env/bin/python serve.py taken)" | tee seen.txt
echo "with an empty capture_signals: $(env/bin/python serve.py left)" | tee -a seen.txt
grep -q "^handlers called at SIGTERM: uvicorn and the program$" seen.txt
grep -q "^with an empty capture_signals: the program$" seen.txt
