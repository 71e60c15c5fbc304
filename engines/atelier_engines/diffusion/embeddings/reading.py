"""Reads textual inversion embeddings of all common formats, and checks that they match the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from atelier_engines.diffusion.embeddings.catalog import BUNDLED
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.errors import describe_unreadable
from atelier_engines.local.weights import digests

_SECOND_FILE = "learned_embeds_2.safetensors"
"""The file for the second text encoder beside the usual one, as diffusers' trainer for SDXL writes it."""
_ENCODER_KEYS = (
    ("clip_l", "clip_g"),  # kohya's, A1111's, ComfyUI's, OneTrainer's
    ("text_encoders_0", "text_encoders_1"),  # diffusers' trainer with pivotal tuning, at first
)
_OUTPUT_KEYS = ("clip_l_out", "clip_g_out")
_KNOWN_WIDTHS = {
    (768,): "Stable Diffusion 1.5",
    (1024,): "Stable Diffusion 2",
    (768, 1280): "Stable Diffusion XL",
}

Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextualInversion:
    """Vectors that text encoders take in place of those of a word."""

    name: str
    """The word in prompts."""
    vectors: tuple[torch.Tensor, ...]
    """(vectors, width) for each text encoder, in the family's order; all have the same number of vectors."""
    digest: str
    """SHA-256 of the file, in hexadecimal."""


def read(name: str, path: Path, widths: Sequence[int]) -> TextualInversion:
    """Read an embedding for a model from its file; docs/formats.md lists the formats.

    Args:
        name: the word in prompts.
        path: the file.
        widths: how long the vectors of the model's text encoders are, in the family's order.

    Raises:
        ModelMissingError: the file is broken, of another format, or for another model.
    """
    tensors, digest = _read_tensors(name, path, ""), digests.digest_file(path)
    second = path.with_name(_SECOND_FILE)
    if len(widths) == len(_ENCODER_KEYS[0]) and len(tensors) == 1 and _is_half(path, second):
        others = _read_tensors(name, second, "")
        tensors = {"clip_l": next(iter(tensors.values())), "clip_g": next(iter(others.values()))}
        digest = digests.digest_lines({path.name: digest, second.name: digests.digest_file(second)})
    return TextualInversion(name=name, vectors=_vectors(name, tensors, widths), digest=digest)


def read_bundled(name: str, path: Path, widths: Sequence[int]) -> TextualInversion:
    """Read an embedding that the file of a LoRA brings along; see `read`."""
    tensors = _read_tensors(name, path, f"{BUNDLED}{name}.")
    return TextualInversion(
        name=name, vectors=_vectors(name, tensors, widths), digest=digests.digest_file(path)
    )


def _is_half(path: Path, second: Path) -> bool:
    return path.name == "learned_embeds.safetensors" and second.is_file()


def _read_tensors(name: str, path: Path, prefix: str) -> Tensors:
    """The tensors whose keys begin so, without the prefix."""
    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118 (safetensors' file is no mapping)
            return {key.removeprefix(prefix): file.get_tensor(key) for key in keys}
    except Exception as error:  # third-party files fail in many ways
        raise ModelMissingError(
            f"the embedding {name} in {path.name} cannot be read: {describe_unreadable(error, path)}"
        ) from error


def _vectors(name: str, tensors: Tensors, widths: Sequence[int]) -> tuple[torch.Tensor, ...]:
    """The vectors for each text encoder.

    Raises:
        ModelMissingError: they are of another format, or for another model.
    """
    made = tuple(_as_rows(name, key, tensor) for key, tensor in _select(name, tensors).items())
    found = tuple(rows.shape[1] for rows in made)
    if found != tuple(widths):
        raise ModelMissingError(
            f"the embedding {name} does not match this model: its vectors have {_say(found)} numbers, "
            f"and the text encoders of the model take {_say(widths)}"
        )
    if len({rows.shape[0] for rows in made}) > 1:
        counts = " and ".join(str(rows.shape[0]) for rows in made)
        raise ModelMissingError(
            f"the embedding {name} is broken: it has {counts} vectors for the text encoders"
        )
    return made


def _select(name: str, tensors: Tensors) -> Tensors:
    """The tensors of the text encoders, in their order: those of known names, or the only one there is."""
    for key in _OUTPUT_KEYS:
        if key in tensors:
            raise _format_error(
                name, f"its key {key} marks vectors for the output of a text encoder"
            )
    for pair in _ENCODER_KEYS:
        if not tensors.keys().isdisjoint(pair):
            extra = [key for key in tensors if key not in pair]
            if extra:
                raise _format_error(name, f"its key {extra[0]} is of no known format")
            return {key: tensors[key] for key in pair if key in tensors}
    # emb_params (kohya, A1111), string_to_param.* (A1111's, converted), and the word itself (diffusers).
    if len(tensors) != 1:
        keys = ", ".join(list(tensors)[:3]) or "no tensors"
        raise _format_error(
            name, f"it has {keys}, and an embedding has one tensor for each text encoder"
        )
    return tensors


def _as_rows(name: str, key: str, tensor: torch.Tensor) -> torch.Tensor:
    rows = tensor[None] if tensor.dim() == 1 else tensor
    if rows.dim() != 2 or not rows.numel() or not rows.is_floating_point():  # noqa: PLR2004 (vectors and their numbers)
        raise _format_error(name, f"its key {key} has the shape {tuple(tensor.shape)}")
    rows = rows.float()
    if not torch.isfinite(rows).all():
        raise ModelMissingError(f"the embedding {name} is broken: it contains NaN or infinity")
    return rows


def _say(widths: Sequence[int]) -> str:
    family = _KNOWN_WIDTHS.get(tuple(widths))
    numbers = " and ".join(map(str, widths))
    return numbers if family is None else f"{numbers} ({family})"


def _format_error(name: str, problem: str) -> ModelMissingError:
    return ModelMissingError(f"the embedding {name} is no supported embedding: {problem}")
