"""All files of one configured model, found and recognised, but not loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights import files, single_file
from atelier_engines.diffusion.weights.files import ComponentFiles
from atelier_engines.diffusion.weights.model_source import resolve_model
from atelier_engines.diffusion.weights.single_file import FamilyName
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, safetensors_header, sources

CONFIGURATIONS = Path(__file__).parent / "configurations"
"""Those of the families' networks, for models that are one file and have none."""

BASE = "stabilityai/stable-diffusion-xl-base-1.0"
"""Has all tokenizers there are: its first is that of SD 1.5 too, its second that of SD 2.1."""

_TOKENIZERS: Mapping[FamilyName, tuple[str, ...]] = {
    "sd15": ("tokenizer",),
    "sd21": ("tokenizer_2", "tokenizer"),
    "sdxl": ("tokenizer", "tokenizer_2"),
}

Architecture = Literal["sd", "sdxl"]

_KINDS = ("", "Img2Img", "Inpaint", "ControlNet", "ControlNetImg2Img", "ControlNetInpaint")

_PIPELINES: Mapping[str, Architecture] = {
    **{f"StableDiffusion{kind}Pipeline": "sd" for kind in _KINDS},
    **{f"StableDiffusionXL{kind}Pipeline": "sdxl" for kind in _KINDS},
}
"""Names in model_index.json to what the model is made of."""

_STEMS: Mapping[Architecture, Mapping[str, str]] = {
    "sd": {
        "text_encoder": "model",
        "unet": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
    },
    "sdxl": {
        "text_encoder": "model",
        "text_encoder_2": "model",
        "unet": "diffusion_pytorch_model",
        "vae": "diffusion_pytorch_model",
    },
}
"""The networks, and how the names of each one's weight files begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePart:
    """A network whose weights lie in one file, perhaps beside those of others."""

    path: Path
    """The file."""
    config: Path
    """The network's config.json."""
    prefix: str = ""
    """How the names of its tensors begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedPart:
    """A denoiser with a LoRA merged into it."""

    base: ComponentFiles | FilePart
    """Without it."""
    lora: Path
    """The file."""


Part = ComponentFiles | FilePart | MergedPart
"""One network that can be loaded; equal parts are equal networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """Everything that a model is loaded from."""

    family: FamilyName
    """What it is."""
    source: Path
    """The directory, or the file."""
    networks: Mapping[str, Part]
    """By their names in diffusers' layout; the denoiser is absent where variants replace it."""
    variants: Mapping[int, Part]
    """Denoisers by their number of steps."""
    tokenizers: tuple[Path, ...]
    """Directories, in the order of the text encoders."""
    scheduler: Path
    """The directory of its configuration."""
    schedule: Mapping[str, object] = field(default_factory=dict)
    """What is to be changed in it."""
    zeros_for_empty: bool = True
    """Whether an empty negative prompt is all zeros, where the family has that."""

    @property
    def architecture(self) -> Architecture:
        """What it is made of."""
        return "sdxl" if self.family == "sdxl" else "sd"

    @property
    def weights(self) -> tuple[Path, ...]:
        """Every file with weights, once."""
        parts = [*self.networks.values(), *self.variants.values()]
        return tuple(dict.fromkeys(path for part in parts for path in files_of(part)))

    def digest(self) -> str:
        """SHA-256, in hexadecimal, over all weights; all bytes are read.

        A file alone has its own. A directory has that of the lines which `sha256sum` writes for its
        weight files, sorted by path. Where the configuration adds weights it is that of such lines
        for `model`, `vae` and the numbers of steps.
        """
        own = [path for path in self.weights if _lies_in(path, self.source)]
        found = {"model": self._digest_of(own)}
        added = {"vae": self.networks["vae"], **{str(n): p for n, p in self.variants.items()}}
        for name, part in added.items():
            others = [path for path in files_of(part) if not _lies_in(path, self.source)]
            if others:
                found[name] = digests.digest_folder(others[0].parent, others)
        return found["model"] if len(found) == 1 else digests.digest_lines(found)

    def _digest_of(self, own: list[Path]) -> str:
        if self.source.is_file():
            return digests.digest_file(self.source)
        return digests.digest_folder(self.source, own)


def files_of(part: Part) -> tuple[Path, ...]:
    """The files with weights of a network."""
    match part:
        case ComponentFiles():
            return part.weights
        case FilePart():
            return (part.path,)
        case MergedPart():
            return (*files_of(part.base), part.lora)


def find(config: DiffusionConfig) -> ModelFiles:
    """The files of the configured model, downloaded if need be and allowed.

    Raises:
        ModelMissingError: something is absent, of another kind, or a pickle; the text names it.
        EngineUnavailableError: the package of the small model is not installed.
    """
    source = resolve_model(config)
    found = _of_file(source, config) if source.is_file() else _of_folder(source, config)
    networks = dict(found.networks)
    if config.vae is not None:
        networks["vae"] = _other_vae(config.vae, networks["vae"], config)
    variants = {
        steps: _variant(name, networks["unet"], config) for steps, name in config.variants.items()
    }
    if variants and not any(isinstance(part, MergedPart) for part in variants.values()):
        del networks["unet"]
    schedule = dict(found.schedule)
    if config.prediction is not None:
        schedule["prediction_type"] = config.prediction
    return ModelFiles(
        family=found.family,
        source=source,
        networks=networks,
        variants=variants,
        tokenizers=found.tokenizers,
        scheduler=found.scheduler,
        schedule=schedule,
        zeros_for_empty=found.zeros_for_empty,
    )


def _of_folder(folder: Path, config: DiffusionConfig) -> ModelFiles:
    kind = files.pipeline_name(folder)
    architecture = _PIPELINES.get(kind)
    if architecture is None:
        raise ModelMissingError(
            f"{folder} is a {kind or 'nameless model'}, and not one of Stable Diffusion 1.5, 2.1 "
            "or XL (StableDiffusionPipeline, StableDiffusionXLPipeline)"
        )
    parts = {
        name: files.component(folder / name, stem, config.variant)
        for name, stem in _STEMS[architecture].items()
    }
    if config.variant and all(part.variant != config.variant for part in parts.values()):
        raise ModelMissingError(f"{folder} has no weights of the variant {config.variant}")
    names = ("tokenizer", "tokenizer_2") if architecture == "sdxl" else ("tokenizer",)
    return ModelFiles(
        family="sdxl" if architecture == "sdxl" else _older(parts["unet"]),
        source=folder,
        networks=parts,
        variants={},
        tokenizers=tuple(folder / name for name in names),
        scheduler=folder / "scheduler",
        zeros_for_empty=_zeros_for_empty(folder),
    )


def _older(unet: ComponentFiles) -> FamilyName:
    """2.x projects into its transformers linearly, 1.x by convolutions."""
    linear = files.read_object(unet.folder / "config.json").get("use_linear_projection", False)
    return "sd21" if linear else "sd15"


def _of_file(path: Path, config: DiffusionConfig) -> ModelFiles:
    known = single_file.recognise(path, safetensors_header.read(path))
    base = _base(path, config)
    shipped = CONFIGURATIONS / known.family
    prefixes = {
        **single_file.TEXT_ENCODERS[known.family],
        "unet": single_file.DENOISER,
        "vae": single_file.AUTOENCODER,
    }

    def configuration(name: str, file: str) -> Path:
        own = base / name / file
        return own if config.base is not None and own.is_file() else shipped / name / file

    return ModelFiles(
        family=known.family,
        source=path,
        networks={
            name: FilePart(path=path, config=configuration(name, "config.json"), prefix=prefix)
            for name, prefix in prefixes.items()
        },
        variants={},
        tokenizers=_tokenizers(base, known.family),
        scheduler=configuration("scheduler", "scheduler_config.json").parent,
        schedule=known.schedule,
        zeros_for_empty=_zeros_for_empty(base) if (base / files.INDEX).is_file() else True,
    )


def _base(path: Path, config: DiffusionConfig) -> Path:
    patterns = ("*.json", "*/*.json", "*/*.txt")
    try:
        return sources.resolve_folder(config.base or BASE, patterns, download=config.download)
    except ModelMissingError as error:
        raise ModelMissingError(
            f"{path} holds no tokenizer, as single files do not, and none is at hand: set `base` "
            f"to a directory in diffusers' layout that has one, or run `atelier models pull` once "
            f"where there is a network; base: {error}"
        ) from error


def _tokenizers(base: Path, family: FamilyName) -> tuple[Path, ...]:
    there = [base / name for name in _TOKENIZERS[family] if (base / name).is_dir()]
    count = len(single_file.TEXT_ENCODERS[family])
    if len(there) < count:
        raise ModelMissingError(
            f"{base} has no {' and '.join(_TOKENIZERS[family][:count])}, which a model of the "
            f"family {family} needs; set `base` to a directory or hub id that has"
        )
    return tuple(there[:count])


def _other_vae(name: str, own: Part, config: DiffusionConfig) -> Part:
    path = sources.resolve_component(name, "vae", download=config.download)
    if path.is_dir():
        return files.component(path, _STEMS["sd"]["vae"], None)
    safetensors_header.read(path)
    return FilePart(path=path, config=config_of(own))


def _variant(name: str, own: Part, config: DiffusionConfig) -> Part:
    path = sources.resolve_component(name, "unet", download=config.download)
    if path.is_dir():
        return files.component(path, _STEMS["sd"]["unet"], config.variant)
    if not single_file.is_lora(safetensors_header.read(path)):
        return FilePart(path=path, config=config_of(own))
    if isinstance(own, MergedPart):
        raise TypeError("a model's own denoiser has no LoRA merged into it")
    return MergedPart(base=own, lora=path)


def config_of(part: Part) -> Path:
    """The config.json of a network."""
    match part:
        case ComponentFiles():
            return part.folder / "config.json"
        case FilePart():
            return part.config
        case MergedPart():
            return config_of(part.base)


def _zeros_for_empty(folder: Path) -> bool:
    return bool(files.read_object(folder / files.INDEX).get("force_zeros_for_empty_prompt", True))


def _lies_in(path: Path, source: Path) -> bool:
    return path == source or path.is_relative_to(source)
