"""Start a generation, kill the process that follows it, and continue after its last event.

python examples/reattach.py "a lighthouse" lighthouse.png
"""

import multiprocessing
import sys

from atelier_client import Client


def watch(generation_id: str, after: int, path: str) -> None:
    """Follow a generation to its end, from any event."""
    with Client() as client:
        for event in client.follow(generation_id, after_sequence=after, fetch=True):
            print(f"event {event.sequence}: {event.stage or event.state}", flush=True)
            if event.generation:
                event.generation.images[0].save(path)


def main(prompt: str, path: str) -> None:
    """Kill the first watcher, and continue in this process."""
    with Client() as client:
        generation = client.submit(prompt)  # it runs without a caller
        watcher = multiprocessing.get_context("spawn").Process(
            target=watch, args=(generation.id, 0, path)
        )
        watcher.start()
        seen = next(client.follow(generation.id)).sequence
        watcher.kill()
        watcher.join()
    print(f"the watcher was killed; continuing after event {seen}", flush=True)
    watch(generation.id, seen, path)


if __name__ == "__main__":
    main(*sys.argv[1:])
