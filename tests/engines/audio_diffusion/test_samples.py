"""Clips are decoded piece by piece, as if in one piece, and have exactly their length."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from diffusers import AutoencoderOobleck

from atelier_engines.audio_diffusion import samples
from atelier_engines.audio_diffusion.oobleck import count_reach
from atelier_engines.errors import EngineFailedError


@pytest.mark.parametrize("ratios", [(2, 4, 4, 8, 8), (3, 2)])
@pytest.mark.parametrize("wanted", [1, 128, 129, 300])
@torch.no_grad()
def test_pieces_are_what_the_whole_would_be(ratios: tuple[int, ...], wanted: int) -> None:
    """At the beginning, at every seam, and before latents that are not wanted."""
    torch.manual_seed(1)
    decoder = AutoencoderOobleck(
        encoder_hidden_size=4,
        downsampling_ratios=list(ratios),
        channel_multiples=[1] * len(ratios),
        decoder_channels=2,
        decoder_input_channels=2,
        audio_channels=1,
    )
    latents = torch.randn(1, 2, 300)
    reach, hop = count_reach(ratios[::-1]), math.prod(ratios)
    pieces = [
        decoder.decode(latents[:, :, chunk.start : chunk.stop]).sample[
            ..., (chunk.keep_start - chunk.start) * hop : (chunk.keep_stop - chunk.start) * hop
        ]
        for chunk in samples.plan_chunks(wanted, 300, reach)
    ]
    whole = decoder.decode(latents).sample[..., : wanted * hop]
    assert torch.cat(pieces, dim=-1).shape == whole.shape
    assert (torch.cat(pieces, dim=-1) - whole).abs().max() <= 1e-5 * whole.abs().max()


def test_a_decoder_that_sees_everything_decodes_in_one_piece() -> None:
    """The latents that are not wanted included."""
    (chunk,) = samples.plan_chunks(10, 300, None)
    assert (chunk.start, chunk.stop, chunk.keep_start, chunk.keep_stop) == (0, 300, 0, 10)


def test_what_would_clip_is_made_quieter_and_nothing_else_changes() -> None:
    """A quiet clip stays as it is."""
    quiet = torch.tensor([[0.1, -0.2, 0.3]])
    made = samples.finish(samples.join([quiet], frames=3), rate=8000)
    assert np.array_equal(made.array[:, 0], quiet[0].numpy())
    loud = samples.finish(samples.join([quiet * 10, quiet], frames=5), rate=8000)
    assert np.abs(loud.array).max() == 1.0
    assert np.allclose(loud.array[:, 0] * 3, [1, -2, 3, 0.1, -0.2])


def test_not_a_number_is_an_error() -> None:
    """It says what to configure."""
    with pytest.raises(EngineFailedError, match=r"NaN or infinity.*precision"):
        samples.join([torch.tensor([[0.0, torch.nan]])], frames=2)
