"""Upload an image once, and use it for two image-to-image tasks.

python examples/upload_img2img.py photo.png "in oil" "as a woodcut"
"""

import asyncio
import sys
from pathlib import Path

from atelier_client import AsyncClient, ImageTask


async def main(photo: str, *prompts: str) -> None:
    """Run both at once; the image is uploaded once."""
    async with AsyncClient() as client:
        start = await client.upload(Path(photo))
        tasks = [ImageTask(prompt=prompt, init_image=start, strength=0.6) for prompt in prompts]
        for number, made in enumerate(await asyncio.gather(*map(client.generate, tasks)), start=1):
            path = Path(photo).with_stem(f"{Path(photo).stem}-{number}")
            print(made.images[0].save(path), "from", start.id, "by", made.engine)


asyncio.run(main(*sys.argv[1:]))
