"""Writes random changes of a model's layers in the formats of LoRAs, and computes what each adds to the weights.

The sums are computed here in other ways than in the engine.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch.nn import functional

RANK = 3
Sums = dict[tuple[str, str, str], torch.Tensor]
"""What is added to a component's layer's weight or bias."""


@dataclass
class Written:
    """A file and what it adds."""

    modules: Mapping[str, torch.nn.Module]
    """The model's components by name."""
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    sums: Sums = field(default_factory=dict)

    def weight(self, network: str, place: str) -> torch.Tensor:
        """The layer's own weight."""
        found = self.modules[network].get_submodule(place).weight
        assert isinstance(found, torch.Tensor)
        return found.detach()

    def layers(self, network: str) -> list[str]:
        """Some layers of a component: attention, feed-forward, and for the denoiser convolutions."""
        if network != "unet":
            layers = [name for name, _ in self.modules[network].named_modules()]
            return [n for n in layers if n.endswith(("0.self_attn.q_proj", "1.mlp.fc2"))]
        block = "mid_block.attentions.0"
        inner = f"{block}.transformer_blocks.0"
        return [
            f"{block}.proj_in",
            *(f"{inner}.attn1.to_q", f"{inner}.attn2.to_out.0", f"{inner}.ff.net.0.proj"),
            *("mid_block.resnets.0.conv1", "down_blocks.0.downsamplers.0.conv"),
        ]

    def save(self, path: Path) -> None:
        """Write the file."""
        tensors = {key: tensor.contiguous() for key, tensor in self.tensors.items()}
        save_file(tensors, path, metadata=self.metadata or None)


def noise(*shape: int) -> torch.Tensor:
    """Random numbers, the same in every run of a test."""
    return torch.randn(*shape) * 0.25


def kohya(network: str, place: str) -> str:
    """Kohya's name of a layer, with diffusers' numbers of blocks."""
    if network == "unet":
        return f"lora_unet_{place.replace('.', '_')}"
    bare = place.removeprefix("text_model.").replace(".", "_")
    return f"lora_te{'2' if network.endswith('2') else '1'}_text_model_{bare}"


def matrices(weight: torch.Tensor, rank: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Down, up and their product for a layer."""
    down = noise(rank, *weight.shape[1:])
    up = noise(weight.shape[0], rank, *(1 for _ in weight.shape[2:]))
    return down, up, torch.einsum("or,r...->o...", up.reshape(-1, rank), down)


def write_resized(out: Written) -> None:
    """kohya's, with rank and alpha by layer, and layers without alpha."""
    for network in out.modules:
        for number, place in enumerate(out.layers(network)):
            rank = 2 + number % 3
            down, up, product = matrices(out.weight(network, place), rank)
            name = kohya(network, place)
            out.tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            alpha = (None, 1.0, rank / 2)[number % 3]
            if alpha is not None:
                out.tensors[f"{name}.alpha"] = torch.tensor(alpha)
            out.sums[network, place, "weight"] = product * (1 if alpha is None else alpha / rank)


def normalized(weight: torch.Tensor, magnitude: torch.Tensor, axis: int) -> torch.Tensor:
    """A weight whose rows or columns have these lengths."""
    rows = weight.transpose(0, axis)
    unit = functional.normalize(rows.flatten(1), dim=1) * magnitude.reshape(-1, 1)
    return unit.reshape(rows.shape).transpose(0, axis)


def write_kohya_dora(out: Written, axis: int) -> None:
    """`dora_scale` for each output (axis 0) or input (axis 1)."""
    for network in out.modules:
        for place in out.layers(network):
            weight = out.weight(network, place)
            down, up, product = matrices(weight, RANK)
            shape = [1] * weight.dim()
            shape[axis] = weight.shape[axis]
            scale = weight.norm() / weight.shape[axis] ** 0.5 * (1 + noise(*shape).abs())
            name = kohya(network, place)
            out.tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            out.tensors |= {f"{name}.dora_scale": scale, f"{name}.alpha": torch.tensor(1.0)}
            changed = normalized(weight + product / RANK, scale, axis)
            out.sums[network, place, "weight"] = changed - weight


def write_peft_dora(out: Written) -> None:
    """`lora_magnitude_vector`, in diffusers' names."""
    for network in out.modules:
        for place in out.layers(network):
            weight = out.weight(network, place)
            down, up, product = matrices(weight, RANK)
            length = weight.flatten(1).norm(dim=1) * (1 + noise(len(weight)).abs())
            shape = (1, -1, 1, 1) if weight.dim() == 4 else (-1,)
            name = f"{network}.{place}"
            out.tensors |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
            out.tensors[f"{name}.lora_magnitude_vector"] = length.reshape(shape)
            out.sums[network, place, "weight"] = normalized(weight + product, length, 0) - weight


def write_loha(out: Written) -> None:
    """Two products, multiplied by element; convolutions with and without a core."""
    for network in out.modules:
        for place in out.layers(network):
            weight, name = out.weight(network, place), kohya(network, place)
            product = torch.ones_like(weight)
            for number in "12":
                rows, columns = noise(len(weight), RANK), noise(RANK, weight[0].numel())
                factor = (rows @ columns).reshape(weight.shape)
                if weight.dim() == 4 and weight.shape[-1] > 1 and place.endswith("conv1"):
                    core = noise(RANK, RANK, 3, 3)
                    rows, columns = noise(RANK, len(weight)), noise(RANK, weight.shape[1])
                    factor = torch.einsum("abhw,ao,bi->oihw", core, rows, columns)
                    out.tensors[f"{name}.hada_t{number}"] = core
                out.tensors |= {f"{name}.hada_w{number}_a": rows}
                out.tensors |= {f"{name}.hada_w{number}_b": columns}
                product = product * factor
            out.tensors[f"{name}.alpha"] = torch.tensor(2.0)
            out.sums[network, place, "weight"] = product * 2.0 / RANK


def blocks(outer: torch.Tensor, inner: torch.Tensor) -> torch.Tensor:
    """The Kronecker product, block by block."""
    return torch.cat([torch.cat([one * inner for one in row], dim=1) for row in outer], dim=0)


def write_lokr(out: Written) -> None:
    """Whole and low-rank factors; convolutions with and without a core."""
    for network in out.modules:
        for number, place in enumerate(out.layers(network)):
            weight, name = out.weight(network, place), kohya(network, place)
            rows, columns, *kernel = len(weight) // 2, weight.shape[1] // 2, *weight.shape[2:]
            outer, scale = noise(2, 2), 1.0
            if kernel and kernel[0] > 1 and place.endswith("conv1"):
                core, a, b = noise(RANK, RANK, *kernel), noise(RANK, rows), noise(RANK, columns)
                inner = torch.einsum("abhw,ao,bi->oihw", core, a, b)
                parts = {"lokr_w1": outer, "lokr_t2": core, "lokr_w2_a": a, "lokr_w2_b": b}
                scale = 2.0 / RANK
            elif number % 2:
                inner = noise(rows, columns, *kernel)
                parts = {"lokr_w1": outer, "lokr_w2": inner}
            else:
                a, b = noise(rows, RANK), noise(RANK, inner_size(columns, kernel))
                c, d = noise(2, RANK), noise(RANK, 2)
                outer, inner = c @ d, (a @ b).reshape(rows, columns, *kernel)
                parts = {"lokr_w1_a": c, "lokr_w1_b": d, "lokr_w2_a": a, "lokr_w2_b": b}
                scale = 2.0 / RANK
            out.tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
            out.tensors[f"{name}.alpha"] = torch.tensor(2.0)
            out.sums[network, place, "weight"] = blocks(outer, inner) * scale


def inner_size(columns: int, kernel: list[int]) -> int:
    """Columns of a convolution's weight as a matrix."""
    return columns * torch.Size(kernel).numel()


def write_difference(out: Written) -> None:
    """Weights, biases and norms, as they are."""
    for network in out.modules:
        for place in out.layers(network):
            name, change = kohya(network, place), noise(*out.weight(network, place).shape) * 0.2
            out.tensors[f"{name}.diff"] = change
            out.sums[network, place, "weight"] = change
    place = "mid_block.resnets.0.conv1"
    out.tensors[f"{kohya('unet', place)}.diff_b"] = noise(len(out.weight("unet", place)))
    out.sums["unet", place, "bias"] = out.tensors[f"{kohya('unet', place)}.diff_b"]
    place = "mid_block.resnets.0.norm1"
    for kind, part in (("weight", "w_norm"), ("bias", "b_norm")):
        change = noise(len(out.weight("unet", place)))
        out.tensors[f"{kohya('unet', place)}.{part}"] = change
        out.sums["unet", place, kind] = change


def write_tucker(out: Written) -> None:
    """LoCon whose convolutions have a core."""
    for place in out.layers("unet")[-2:]:
        weight, name = out.weight("unet", place), kohya("unet", place)
        up, core = noise(len(weight), RANK, 1, 1), noise(RANK, RANK, *weight.shape[2:])
        down = noise(RANK, weight.shape[1], 1, 1)
        out.tensors |= {f"{name}.lora_up.weight": up, f"{name}.lora_mid.weight": core}
        out.tensors |= {f"{name}.lora_down.weight": down, f"{name}.alpha": torch.tensor(1.5)}
        product = torch.einsum("oa,abhw,bi->oihw", up[..., 0, 0], core, down[..., 0, 0])
        out.sums["unet", place, "weight"] = product / 2


def write_named(out: Written, name: Callable[[str, str], str], down: str, up: str) -> None:
    """A plain LoRA of the attention layers under these names."""
    for place in out.layers("unet")[:4]:
        first, second, product = matrices(out.weight("unet", place), RANK)
        out.tensors |= {f"{name('unet', place)}{down}": first, f"{name('unet', place)}{up}": second}
        out.sums["unet", place, "weight"] = product


def write_onetrainer(out: Written, prefixes: Mapping[str, str], *, renumbered: bool) -> None:
    """Names with dots, of all components; in its OMI format the denoiser's are those of the original code."""
    for network, prefix in prefixes.items():
        for place in out.layers(network)[:4] if network in out.modules else ():
            down, up, product = matrices(out.weight(network, place), RANK)
            name = f"{prefix}.{place}"
            if network != "unet":
                name = f"{prefix}.text_model.{place.removeprefix('text_model.')}"
            elif renumbered:
                name = original(network, place).replace("diffusion_model.", f"{prefix}.")
            out.tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
            out.tensors[f"{name}.alpha"] = torch.tensor(1.0)
            out.sums[network, place, "weight"] = product / RANK


def original(_network: str, place: str) -> str:
    """ComfyUI's names: those of the original code, for the blocks used here."""
    place = place.replace("mid_block.attentions.0", "middle_block.1")
    place = place.replace("mid_block.resnets.0.conv1", "middle_block.0.in_layers.2")
    return f"diffusion_model.{place}"


def write_rank_stabilized(out: Written) -> None:
    """Scales in the file's metadata, by pattern, divided by the rank's root."""
    write_named(
        out, lambda network, place: f"{network}.{place}", ".lora_A.weight", ".lora_B.weight"
    )
    settings = {"r": RANK, "lora_alpha": 2, "use_rslora": True, "alpha_pattern": {"to_q": 1}}
    flat = {f"unet.{key}": value for key, value in settings.items()}
    out.metadata["lora_adapter_metadata"] = json.dumps(flat)
    for network, place, kind in out.sums:
        out.sums[network, place, kind] *= (1 if place.endswith("to_q") else 2) / RANK**0.5


FORMATS: Mapping[str, Callable[[Written], None]] = {
    "kohya, by layer": write_resized,
    "DoRA by output": lambda out: write_kohya_dora(out, 0),
    "DoRA by input": lambda out: write_kohya_dora(out, 1),
    "DoRA of PEFT": write_peft_dora,
    "LoHa": write_loha,
    "LoKr": write_lokr,
    "difference": write_difference,
    "LoCon with core": write_tucker,
    "rsLoRA": write_rank_stabilized,
    "LyCORIS' prefix": lambda out: write_named(
        out,
        lambda _, place: f"lycoris_{place.replace('.', '_')}",
        ".lora_down.weight",
        ".lora_up.weight",
    ),
    "PEFT's prefix": lambda out: write_named(
        out, lambda _, place: f"base_model.model.{place}", ".lora_A.weight", ".lora_B.weight"
    ),
    "ComfyUI's names": lambda out: write_named(
        out, original, ".lora_down.weight", ".lora_up.weight"
    ),
    "original names": lambda out: write_named(
        out,
        lambda *layer: original(*layer).replace("diffusion_model.", "lora_unet_").replace(".", "_"),
        ".lora_down.weight",
        ".lora_up.weight",
    ),
    "diffusers before PEFT": lambda out: write_named(
        out,
        lambda network, place: f"{network}.{place.replace('.to_', '.processor.to_')}",
        "_lora.down.weight",
        "_lora.up.weight",
    ),
    "OneTrainer, OMI": lambda out: write_onetrainer(
        out,
        {"unet": "unet", "text_encoder": "clip_l", "text_encoder_2": "clip_g"},
        renumbered=True,
    ),
    "OneTrainer, backup": lambda out: write_onetrainer(
        out,
        {"unet": "lora_unet", "text_encoder": "lora_te1", "text_encoder_2": "lora_te2"},
        renumbered=False,
    ),
}
"""What writes each format, by its name in the tests."""
