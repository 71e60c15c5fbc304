"""The random numbers of one output, from a seed of 63 bits."""

from __future__ import annotations

import numpy as np
import torch

_TORCH_BITS = 32  # of a seed, which torch's generator of the CPU uses
_STATE_OFFSET = 24  # bytes before the words of the Mersenne Twister in that generator's state
_STATE_WORDS = 624


def make_generator(seed: int) -> torch.Generator:
    """The generator of a seed, 0 to 2**63 - 1; seeds below 2**32 give what `torch.Generator.manual_seed` gives.

    Torch drops the upper half of a larger seed, so 7 and 7 + 2**32 would be the same. There both halves initialise the
    same Mersenne Twister, in the way of its authors for keys of several words (`init_by_array`).

    Source: Matsumoto and Nishimura, mt19937ar.c (2002); torch, CPUGeneratorImpl.cpp, for the layout of the state.
    """
    generator = torch.Generator("cpu").manual_seed(seed)
    high, low = divmod(seed, 2**_TORCH_BITS)
    if high:
        key = np.array([low, high], np.uint32)
        words = np.random.RandomState(key).get_state(legacy=False)["state"]["key"]
        state = generator.get_state()
        end = _STATE_OFFSET + 8 * _STATE_WORDS
        state[_STATE_OFFSET:end] = torch.from_numpy(words.astype(np.uint64).view(np.uint8))
        generator.set_state(state)
    return generator
