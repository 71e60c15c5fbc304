"""Run the server inside a program, with an engine type of its own that no package registers.

python examples/embedded.py "a lighthouse" lighthouse.png
"""

import asyncio
import sys

from atelier_client import AsyncClient
from atelier_engines import registry
from atelier_engines.config import Section
from atelier_engines.engine import Engine, EngineType
from atelier_engines.sketch import ENGINE as SKETCH
from atelier_server.app import running
from atelier_server.config.load import load


class DraftConfig(Section):
    """Settings of the type."""

    hurry: bool = False


def create(config: DraftConfig) -> Engine:
    """Your engine; here the one that needs no model."""
    return SKETCH.create(SKETCH.config(delay_seconds=0 if config.hurry else 1))


async def main(prompt: str, path: str) -> None:
    """Register the type, serve an engine of it, and use it."""
    registry.register("draft", EngineType(config=DraftConfig, create=create))
    engines = {"own": {"type": "draft", "hurry": True}}
    local = "127.0.0.1:0"  # a free port
    settings = load(None, engines=engines, listen=local, metrics=local, data_dir=f"{path}.data")
    async with running(settings) as address, AsyncClient(address) as client:
        print("saved", (await client.generate(prompt)).images[0].save(path))


asyncio.run(main(*sys.argv[1:]))
