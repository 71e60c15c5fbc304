"""Noise for latents, as training the denoiser and what is added to it needs it."""

from dataclasses import dataclass

import torch

FEW_STEPS = (999, 999, 999, 874, 749, 749, 624, 499, 499, 374, 249, 249, 124)
"""Time steps that 4 and 8 trailing steps visit; the first decides most, so it counts thrice."""

_FEW_SHARE = 0.75
_SIZE_SHARE = 0.15


@dataclass(frozen=True, slots=True)
class Noised:
    """Latents with noise, and what the denoiser must make of them."""

    latents: torch.Tensor
    moments: torch.Tensor
    """[count]: time steps."""
    velocity: torch.Tensor
    """To be predicted (Salimans and Ho 2022, arXiv 2202.00512)."""

    @staticmethod
    def draw(clean: torch.Tensor, shares: torch.Tensor, draw: torch.Generator) -> "Noised":
        """Noise on clean latents; ``shares`` are the signal's after each of 1000 time steps."""
        noise = torch.randn(clean.shape, generator=draw)
        moments = time_steps(len(clean), draw)
        signal, noisy = (s[moments].sqrt().view(-1, 1, 1, 1) for s in (shares, 1 - shares))
        return Noised(signal * clean + noisy * noise, moments, signal * noise - noisy * clean)

    def loss(self, predicted: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the predicted velocity."""
        return (predicted.float() - self.velocity).square().mean()


def time_steps(count: int, draw: torch.Generator) -> torch.Tensor:
    """[count]: most of them those that few-step sampling visits, the rest spread evenly."""
    even = (torch.arange(count) + torch.rand(count, generator=draw)) / count * 1000
    few = torch.tensor(FEW_STEPS)[torch.randint(len(FEW_STEPS), (count,), generator=draw)]
    use_few = torch.rand(count, generator=draw) < _FEW_SHARE
    return torch.where(use_few, few, even.long()[torch.randperm(count, generator=draw)])


def time_ids(count: int, draw: torch.Generator) -> torch.Tensor:
    """[count, 6]: SDXL's sizes and crop; sometimes another size, so that it matters little."""
    size = torch.full((count,), 128.0)
    other = torch.randint(64, 257, (count,), generator=draw).float()
    size = torch.where(torch.rand(count, generator=draw) < _SIZE_SHARE, other, size)
    zero = torch.zeros(count)
    return torch.stack([size, size, zero, zero, size, size], dim=1)
