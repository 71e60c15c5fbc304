"""Generate the same image twice with one seed, without asyncio.

python examples/sync.py "a lighthouse"
"""

import sys

from atelier_client import AtelierError, Client


def main(prompt: str) -> None:
    """Compare two images of one seed."""
    with Client() as client:
        first = client.generate(prompt, seed=7).images[0]
        again = client.generate(prompt, seed=7).images[0]
    print(f"{first.width}x{first.height} {first.media_type}, seed {first.seed}")
    print("equal" if first.data == again.data else "different")


try:
    main(*sys.argv[1:])
except AtelierError as error:
    sys.exit(f"{type(error).__name__}: {error}")
