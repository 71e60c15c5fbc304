"""Generate an image, and show its progress.

python examples/generate.py "a lighthouse" lighthouse.png
"""

import asyncio
import sys

from atelier_client import AsyncClient


async def main(prompt: str, path: str) -> None:
    """Print the progress, and save the image."""
    async with AsyncClient() as client:  # ATELIER_SERVER, or localhost:50051
        async for event in client.stream(prompt, width=128, height=128):
            print(f"{event.progress:4.0%} {event.stage or event.state}")
            if event.generation:
                print("saved", event.generation.images[0].save(path))


asyncio.run(main(*sys.argv[1:]))
