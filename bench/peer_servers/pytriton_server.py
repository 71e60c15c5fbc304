"""PyTriton with a model that returns the same bytes at once: `pytriton_server.py PORT BYTES`."""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

IMAGE = np.zeros((1, int(sys.argv[2])), np.uint8)


@batch
def infer(seed: np.ndarray) -> dict[str, np.ndarray]:
    """Return the image for each of the seeds."""
    return {"image": IMAGE if len(seed) == 1 else np.repeat(IMAGE, len(seed), 0)}


if __name__ == "__main__":
    port = int(sys.argv[1])
    config = TritonConfig(
        http_port=port, grpc_port=port + 1, allow_metrics=False, http_address="127.0.0.1"
    )
    with Triton(config=config) as triton:
        triton.bind(
            model_name="image",
            infer_func=infer,
            inputs=[Tensor(name="seed", dtype=np.int32, shape=(1,))],
            outputs=[Tensor(name="image", dtype=np.uint8, shape=(-1,))],
            config=ModelConfig(max_batch_size=8),
        )
        triton.serve()
