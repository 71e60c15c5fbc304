"""Start a generation, lose the process that watches it, and take it up where it was.

python examples/reattach.py "a lighthouse" lighthouse.png
"""

import multiprocessing
import sys

from atelier_client import Client


def watch(generation_id: str, after: int, path: str) -> None:
    """Follow a generation from any event to its end."""
    with Client() as client:
        for event in client.follow(generation_id, after_sequence=after, fetch=True):
            print(f"event {event.sequence}: {event.stage or event.state}", flush=True)
            if event.generation:
                event.generation.images[0].save(path)


def main(prompt: str, path: str) -> None:
    """Kill the first watcher, and go on in this process."""
    with Client() as client:
        generation = client.submit(prompt)  # runs on its own from here on
        watcher = multiprocessing.get_context("spawn").Process(
            target=watch, args=(generation.id, 0, path)
        )
        watcher.start()
        seen = next(client.follow(generation.id)).sequence
        watcher.kill()
        watcher.join()
    print(f"the watcher is gone; going on after event {seen}", flush=True)
    watch(generation.id, seen, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
