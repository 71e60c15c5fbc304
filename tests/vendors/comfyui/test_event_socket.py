"""The socket of a ComfyUI server that breaks often."""

from __future__ import annotations

import asyncio
import json

from websockets.asyncio.server import ServerConnection, serve

from atelier_engines.vendors.comfyui.event_socket import EventSocket
from atelier_engines.vendors.comfyui.messages import JobStarted

_BREAKS = 12


async def test_a_socket_that_breaks_often_is_opened_again_each_time() -> None:
    """Only attempts that fail one after another are limited."""
    numbers = iter(range(_BREAKS))

    async def send_one(connection: ServerConnection) -> None:
        await connection.recv()
        data = {"prompt_id": str(next(numbers, "late"))}
        await connection.send(json.dumps({"type": "execution_start", "data": data}))

    async with serve(send_one, "127.0.0.1", 0) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        socket = EventSocket(f"ws://127.0.0.1:{port}", {}, reconnect_seconds=0.01)
        async with socket.connect(), asyncio.timeout(60):
            received = [await socket.receive(60.0) for _ in range(_BREAKS)]
    assert received == [JobStarted(prompt=str(number)) for number in range(_BREAKS)]
