"""LitServe with a model that returns the same bytes at once: `litserve_server.py PORT BYTES`."""

import sys

import litserve
from starlette.responses import Response


class FixedImage(litserve.LitAPI):
    """Answers every request with an image of a fixed size."""

    def setup(self, device: str) -> None:  # noqa: ARG002 (of the interface)
        """Make the image."""
        self.data = bytes(int(sys.argv[2]))

    def decode_request(self, request: dict[str, object]) -> dict[str, object]:
        """Take the request as it is."""
        return request

    def predict(self, request: dict[str, object]) -> bytes:  # noqa: ARG002 (of the interface)
        """Return the image."""
        return self.data

    def encode_response(self, output: bytes) -> Response:
        """Return the image as it is."""
        return Response(content=output, media_type="image/png")


if __name__ == "__main__":
    server = litserve.LitServer(FixedImage(), accelerator="cpu", workers_per_device=1)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False
    )
