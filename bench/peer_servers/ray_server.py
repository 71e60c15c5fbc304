"""Ray Serve with a model that returns the same bytes at once: `ray_server.py PORT BYTES`."""

import sys
import threading

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(max_ongoing_requests=64)
class FixedImage:
    """Answers every request with an image of a fixed size."""

    def __init__(self, size: int) -> None:
        """Make the image."""
        self.data = bytes(size)

    async def __call__(self, request: Request) -> Response:
        """Return the image."""
        await request.body()
        return Response(content=self.data, media_type="image/png")


if __name__ == "__main__":
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 * 2**20,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(FixedImage.bind(int(sys.argv[2])))
    threading.Event().wait()
