"""Sees images before they are rounded to bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from atelier_engines.diffusion.families.family import Family
from atelier_engines.diffusion.runtimes.base import OnOverflow, ignore_overflow


@dataclass(eq=False)
class RecordingFamily:
    """A model whose images are kept as floats, (1, 3, height, width) of about -1 to 1."""

    family: Family
    decoded: list[torch.Tensor] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 (whatever the model has)
        return getattr(self.family, name)

    def decode(
        self,
        latents: torch.Tensor,
        *,
        tiled: bool = False,
        on_overflow: OnOverflow = ignore_overflow,
    ) -> torch.Tensor:
        """See Family.decode."""
        self.decoded.append(self.family.decode(latents, tiled=tiled, on_overflow=on_overflow))
        return self.decoded[-1]
