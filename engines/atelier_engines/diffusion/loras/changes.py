"""The changes that LoRAs make to the weights of one layer.

The formulas are those of LyCORIS (lycoris/functional and lycoris/modules, version 3.4),
and of PEFT for its spelling of DoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch

_LOW_RANK = frozenset({"down", "up"})
_MAKERS: tuple[frozenset[str], ...] = (
    _LOW_RANK,
    frozenset({"hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"}),
    frozenset({"lokr_w1", "lokr_w2"}),
    frozenset({"lokr_w1_a", "lokr_w1_b", "lokr_w2"}),
    frozenset({"lokr_w1", "lokr_w2_a", "lokr_w2_b"}),
    frozenset({"lokr_w1_a", "lokr_w1_b", "lokr_w2_a", "lokr_w2_b"}),
    frozenset({"diff"}),
    frozenset(),
)
"""The parts of each kind of change; none is one of the bias alone."""
_OPTIONAL = {
    "down": {"mid", "dora_scale", "magnitude"},
    "hada_w1_a": {"hada_t1", "hada_t2", "dora_scale"},
    "lokr_w2_a": {"lokr_t2", "dora_scale"},
    "lokr_w2": {"dora_scale"},
    "diff": {"dora_scale"},
}


@dataclass(frozen=True, slots=True)
class LayerChange:
    """What one LoRA changes in one layer."""

    parts: Mapping[str, torch.Tensor]
    """Its tensors by their part, see `formats`; without alpha."""
    alpha: float | None
    """Divided by the rank it is the scale; None is a scale of 1."""
    rank_stabilized: bool = False
    """Whether alpha is divided by the root of the rank (rsLoRA)."""

    @property
    def low_rank(self) -> bool:
        """Whether it is nothing but a product of two matrices."""
        return self.parts.keys() == _LOW_RANK

    @property
    def complete(self) -> bool:
        """Whether the parts make up a change of one kind, with none left over."""
        own = {part for part in self.parts if part != "diff_b"}
        return any(
            needed <= own and own - needed <= _optional(needed)
            for needed in _MAKERS
            if bool(needed) == bool(own)
        )

    @property
    def scale(self) -> float:
        """What the change is multiplied by at a weight of 1."""
        rank = self._rank()
        if self.alpha is None or rank is None:
            return 1.0
        return self.alpha / (math.sqrt(rank) if self.rank_stabilized else rank)

    def on_meta(self) -> LayerChange:
        """The same without numbers, to try the shapes."""
        parts = {part: tensor.to("meta") for part, tensor in self.parts.items()}
        return LayerChange(parts, self.alpha, self.rank_stabilized)

    def bias(self) -> torch.Tensor | None:
        """The change of the layer's bias at a weight of 1; None where it changes none."""
        return self.parts.get("diff_b")

    def difference(self, weight: torch.Tensor) -> torch.Tensor | None:
        """The change of the layer's weight at a weight of 1; None where it changes none.

        Args:
            weight: the layer's own, in float32.

        Raises:
            RuntimeError: the shapes do not fit.
        """
        made = self._product({part: t.to(weight) for part, t in self.parts.items()})
        if made is None:
            return None
        if made.shape[0] != weight.shape[0] or made.numel() != weight.numel():
            raise RuntimeError(f"{tuple(made.shape)} does not fit {tuple(weight.shape)}")
        made = made.reshape(weight.shape) * self.scale
        if "magnitude" in self.parts:
            return _decomposed(weight, made, self.parts["magnitude"].reshape(-1), axis=0)
        if "dora_scale" in self.parts:
            magnitude = self.parts["dora_scale"]
            return _decomposed(weight, made, magnitude, axis=_dora_axis(magnitude, weight))
        return made

    def _rank(self) -> int | None:
        """None where there is no matrix of low rank, and so no scale."""
        for part in ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b"):
            if part in self.parts:
                return self.parts[part].shape[0]
        return None

    def _product(self, parts: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        if "down" in parts:
            return _multiply(parts["up"], parts["down"], parts.get("mid"))
        if "hada_w1_a" in parts:
            return _hadamard(parts)
        if "lokr_w1" in parts or "lokr_w1_a" in parts:
            return _kronecker(parts)
        return parts.get("diff")


def _optional(needed: frozenset[str]) -> set[str]:
    return {part for key, parts in _OPTIONAL.items() if key in needed for part in parts}


def _multiply(up: torch.Tensor, down: torch.Tensor, mid: torch.Tensor | None) -> torch.Tensor:
    if mid is None:
        return up.flatten(1) @ down.flatten(1)
    return torch.einsum("ij...,pi,jr->pr...", mid, up.flatten(1), down.flatten(1))


def _tucker(core: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """A convolution's weight from its core (rank, rank, height, width)."""
    return torch.einsum("ij...,ip,jr->pr...", core, rows, columns)


def _hadamard(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """LoHa: the product, element by element, of two matrices of low rank."""
    made = []
    for number in ("1", "2"):
        rows, columns = parts[f"hada_w{number}_a"], parts[f"hada_w{number}_b"]
        core = parts.get(f"hada_t{number}")
        made.append(rows @ columns if core is None else _tucker(core, rows, columns))
    return made[0] * made[1]


def _kronecker(parts: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """LoKr: the Kronecker product of two matrices, each whole or of low rank."""
    outer, inner = (_kronecker_factor(parts, number) for number in ("1", "2"))
    if inner.dim() > outer.dim():
        outer = outer.reshape(*outer.shape, *(1 for _ in inner.shape[outer.dim() :]))
    return torch.kron(outer.contiguous(), inner.contiguous())


def _kronecker_factor(parts: Mapping[str, torch.Tensor], number: str) -> torch.Tensor:
    if f"lokr_w{number}" in parts:
        return parts[f"lokr_w{number}"]
    rows, columns = parts[f"lokr_w{number}_a"], parts[f"lokr_w{number}_b"]
    core = parts.get(f"lokr_t{number}")
    return rows @ columns if core is None else _tucker(core, rows, columns)


def _dora_axis(magnitude: torch.Tensor, weight: torch.Tensor) -> int:
    """The axis that has a magnitude for each of its entries: 0 for outputs, 1 for inputs."""
    for axis in (1, 0):
        wanted = [1] * weight.dim()
        wanted[axis] = weight.shape[axis]
        if list(magnitude.shape) == wanted:
            return axis
    if magnitude.dim() == 1 and magnitude.shape[0] == weight.shape[0]:
        return 0
    raise RuntimeError(
        f"dora_scale has the shape {tuple(magnitude.shape)}, "
        f"but the layer's weight has {tuple(weight.shape)}"
    )


def _decomposed(
    weight: torch.Tensor, change: torch.Tensor, magnitude: torch.Tensor, *, axis: int
) -> torch.Tensor:
    """DoRA: the changed weight, each row or column brought to its magnitude, less the weight."""
    changed = weight + change
    others = [dim for dim in range(weight.dim()) if dim != axis]
    norm: torch.Tensor = torch.linalg.vector_norm(changed, dim=others, keepdim=True)
    norm = norm + torch.finfo(changed.dtype).eps
    made: torch.Tensor = changed * (magnitude.to(weight).reshape(norm.shape) / norm) - weight
    return made
