"""Encodes a task's initial audio into latents, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Generator

import numpy as np
import torch

from atelier_engines.audio_diffusion.model import LatentCodec
from atelier_engines.audio_diffusion.samples import plan_chunks
from atelier_engines.media import Samples


def encode_audio(
    encode: Callable[[torch.Tensor], torch.Tensor], codec: LatentCodec, audio: Samples, count: int
) -> Generator[None, torch.Tensor, torch.Tensor]:
    """Parameters of the distribution of `count` latents: the audio, and silence after it; yields between two pieces.

    Each piece is encoded as if all were encoded at once, in bounded memory. What is silent from end to end, and has
    more silence on both sides, is encoded once.

    Args:
        encode: encodes a wave, as `AudioModel.encode_audio`.
        codec: of the same model.
        audio: in the model's sample rate and channels.
        count: as many as the model makes of a clip; what the audio has beyond them is left out.
    """
    hop, reach = codec.hop, codec.encoder_reach
    wave = torch.from_numpy(audio.array[: count * hop].T.copy())
    wave = torch.nn.functional.pad(wave, (0, count * hop - wave.shape[1])).unsqueeze(0)
    silence: torch.Tensor | None = None
    pieces = []
    for chunk in plan_chunks(count, count, reach):
        part = wave[:, :, chunk.start * hop : chunk.stop * hop]
        is_silence = chunk.start > 0 and chunk.stop < count and not part.any()
        if is_silence and silence is not None:
            pieces.append(silence)
            continue
        encoded = encode(part)
        first = chunk.keep_start - chunk.start
        pieces.append(encoded[:, :, first : first + chunk.keep_stop - chunk.keep_start])
        if is_silence:
            silence = pieces[-1]
        yield
    return torch.cat(pieces, dim=-1)


def encode_beginning(
    encode: Callable[[torch.Tensor], torch.Tensor], codec: LatentCodec, audio: Samples
) -> Generator[None, torch.Tensor, torch.Tensor]:
    """Parameters of the distribution of the latents that the audio fills, as if it went on; yields between two pieces.

    What it goes on with is itself, backwards: with silence after it, its last latents would be those of an end.
    """
    filled = count_filled(codec, audio)
    count = min(filled + codec.encoder_reach, codec.max_latents)
    missing = max(0, count * codec.hop - len(audio.array))
    mirrored = np.pad(audio.array, ((0, missing), (0, 0)), mode="symmetric")
    mirrored_audio = Samples(array=mirrored, sample_rate=audio.sample_rate)
    parameters = yield from encode_audio(encode, codec, mirrored_audio, count)
    return parameters[:, :, :filled]


def count_filled(codec: LatentCodec, audio: Samples) -> int:
    """Latents that the audio fills to their end."""
    return len(audio.array) // codec.hop
