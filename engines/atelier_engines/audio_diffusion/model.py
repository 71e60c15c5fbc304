"""What a pipeline needs to know of an audio model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from atelier_engines.audio_diffusion.info import AudioModelInfo
from atelier_engines.audio_diffusion.sampling import Conditioning, ModelInput, NoiseSchedule
from atelier_engines.local.components import EngineComponents
from atelier_engines.task import AudioTask


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentCodec:
    """How latents and samples correspond."""

    hop: int
    """Samples for each latent."""
    max_latents: int
    """Most latents of a clip."""
    reach: int | None
    """Latents on either side that a sample depends on; None where it depends on all of them."""
    encoder_reach: int
    """Latents on either side of its own samples that a latent depends on."""

    def count_latents(self, samples: int) -> int:
        """Latents that hold so many samples, as far as there are so many."""
        return min(self.max_latents, -(-samples // self.hop))


class AudioModel(Protocol):
    """A loaded model. For one thread at a time."""

    @property
    def info(self) -> AudioModelInfo:
        """Facts about it."""

    @property
    def components(self) -> EngineComponents:
        """Its components in the model cache."""

    @property
    def codec(self) -> LatentCodec:
        """How its latents and samples correspond."""

    @property
    def latent_axis(self) -> int:
        """The axis along which the latents of a clip follow each other."""

    def encode(self, task: AudioTask, *, guided: bool) -> Conditioning:
        """The task's texts and duration; with `guided`, the unconditional row comes first.

        Raises:
            InvalidTaskError: a text is longer than the model reads.
        """

    def encode_audio(self, wave: torch.Tensor) -> torch.Tensor:
        """Parameters of the distribution of a wave's latents.

        Args:
            wave: (1, channels, samples), a whole number of latents long.

        Returns:
            (1, numbers, latents).
        """

    def draw_latents(self, parameters: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Latents of one clip, as the model lays them out, of the parameters that `encode_audio` gives."""

    def condition_on(
        self, conditioning: Conditioning, parameters: torch.Tensor, count: int
    ) -> Conditioning | None:
        """The conditioning that also tells the model of latents that a clip begins with.

        Args:
            conditioning: of prompt and duration.
            parameters: of those latents, as `encode_audio` gives them.
            count: latents of the clip.

        Returns:
            None where the model has no such input: then they are put into the clip's latents before each step.
        """

    def schedule(self, steps: int) -> NoiseSchedule:
        """A fresh scheduler, set to so many steps."""

    def count_latents(self, task: AudioTask) -> int:
        """Latents that the denoiser makes for the task, at least those of its duration."""

    def latent_shape(self, count: int) -> tuple[int, ...]:
        """The shape of so many latents of one clip, one row."""

    def denoise(self, inputs: ModelInput, conditioning: Conditioning) -> torch.Tensor:
        """The denoiser's prediction in float32, in the shape of the latents."""

    def decode(self, latents: torch.Tensor, start: int, stop: int) -> torch.Tensor:
        """Samples of the latents `start` to `stop` of a clip alone, (channels, samples) in float32."""
