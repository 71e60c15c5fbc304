"""Finds and recognises all files of a configured model; loads none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights import diffusers_layout, single_file
from atelier_engines.diffusion.weights.diffusers_layout import ComponentFiles
from atelier_engines.diffusion.weights.model_source import resolve_model
from atelier_engines.diffusion.weights.single_file import FamilyName
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, safetensors_header, sources
from atelier_engines.local.weights.quantization import find_quantization

CONFIGURATIONS = Path(__file__).parent / "configurations"
"""Configurations of the families' components, for models in one file, which have none."""

BASE = "stabilityai/stable-diffusion-xl-base-1.0"
"""A model with the tokenizers of all families: its first is that of SD 1.5, its second that of 2.1."""

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
"""Class names in model_index.json, and the architecture of each."""

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
"""The components, and how the names of each one's weight files begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleFileComponent:
    """A component whose weights are in one file, perhaps beside those of others."""

    path: Path
    """The file."""
    config: Path
    """The component's config.json."""
    prefix: str = ""
    """How the names of its tensors begin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MergedComponent:
    """A denoiser with a LoRA merged into it."""

    base: ComponentFiles | SingleFileComponent
    """The denoiser before the LoRA is merged."""
    lora: Path
    """The file of the LoRA."""


ComponentSource = ComponentFiles | SingleFileComponent | MergedComponent
"""Where one component is loaded from; equal sources give equal components."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFiles:
    """All files that a model is loaded from."""

    family: FamilyName
    """The family that the model belongs to."""
    source: Path
    """The model's directory, or its file."""
    components: Mapping[str, ComponentSource]
    """Components by their names in diffusers' layout; without a denoiser if variants replace it."""
    variants: Mapping[int, ComponentSource]
    """Denoisers by the number of steps that they were made for."""
    tokenizers: tuple[Path, ...]
    """Directories of the tokenizers, in the order of the text encoders."""
    scheduler: Path
    """The directory of the scheduler's configuration."""
    scheduler_overrides: Mapping[str, object] = field(default_factory=dict)
    """Values to change in the scheduler's configuration."""
    force_zeros_for_empty_prompt: bool = True
    """Whether an empty negative prompt is all zeros, in families that have this setting."""

    @property
    def architecture(self) -> Architecture:
        """Which components the model consists of."""
        return "sdxl" if self.family == "sdxl" else "sd"

    @property
    def weights(self) -> tuple[Path, ...]:
        """All files with weights, each once."""
        found = [*self.components.values(), *self.variants.values()]
        return tuple(dict.fromkeys(path for component in found for path in weight_files(component)))

    def digest(self) -> str:
        """SHA-256, in hexadecimal, over all weights; all bytes are read.

        A file alone has its own. A directory has that of the lines which `sha256sum` writes for its
        weight files, sorted by path. Where the configuration adds weights it is that of such lines
        for `model`, `vae` and the numbers of steps.
        """
        own = [path for path in self.weights if _is_inside(path, self.source)]
        found = {"model": self._digest_own(own)}
        added = {"vae": self.components["vae"], **{str(n): p for n, p in self.variants.items()}}
        for name, component in added.items():
            others = [path for path in weight_files(component) if not _is_inside(path, self.source)]
            if others:
                found[name] = digests.digest_folder(others[0].parent, others)
        return found["model"] if len(found) == 1 else digests.digest_lines(found)

    def _digest_own(self, own: list[Path]) -> str:
        if self.source.is_file():
            return digests.digest_file(self.source)
        return digests.digest_folder(self.source, own)


def weight_files(component: ComponentSource) -> tuple[Path, ...]:
    """The files with a component's weights."""
    match component:
        case ComponentFiles():
            return component.weights
        case SingleFileComponent():
            return (component.path,)
        case MergedComponent():
            return (*weight_files(component.base), component.lora)


def find_model_files(config: DiffusionConfig) -> ModelFiles:
    """The files of the configured model, downloaded if need be and allowed.

    Raises:
        ModelMissingError: something is absent, of another kind, or a pickle; the message names it.
        EngineUnavailableError: the package of the bundled model is not installed.
    """
    source = resolve_model(config)
    found = _find_in_file(source, config) if source.is_file() else _find_in_folder(source, config)
    components = dict(found.components)
    if config.vae is not None:
        components["vae"] = _find_vae(config.vae, components["vae"], config)
    variants = {
        steps: _find_variant(name, components["unet"], config)
        for steps, name in config.variants.items()
    }
    if variants and not any(
        isinstance(component, MergedComponent) for component in variants.values()
    ):
        del components["unet"]
    for component in (*components.values(), *variants.values()):
        _require_known_format(component)
    scheduler_overrides = dict(found.scheduler_overrides)
    if config.prediction_type is not None:
        scheduler_overrides["prediction_type"] = config.prediction_type
    return ModelFiles(
        family=found.family,
        source=source,
        components=components,
        variants=variants,
        tokenizers=found.tokenizers,
        scheduler=found.scheduler,
        scheduler_overrides=scheduler_overrides,
        force_zeros_for_empty_prompt=found.force_zeros_for_empty_prompt,
    )


def _require_known_format(component: ComponentSource) -> None:
    """Return if the component's weights are numbers, or quantized in a supported format."""
    match component:
        case ComponentFiles():
            for path in component.weights:
                find_quantization(path)
        case SingleFileComponent():
            find_quantization(component.path, component.prefix)
        case MergedComponent():
            _require_known_format(component.base)


def _find_in_folder(folder: Path, config: DiffusionConfig) -> ModelFiles:
    kind = diffusers_layout.read_pipeline_class(folder)
    architecture = _PIPELINES.get(kind)
    if architecture is None:
        raise ModelMissingError(
            f"{folder} is a {kind or 'nameless model'}, and not one of Stable Diffusion 1.5, 2.1 "
            "or XL (StableDiffusionPipeline, StableDiffusionXLPipeline)"
        )
    found = {
        name: diffusers_layout.find_component(folder / name, stem, config.variant)
        for name, stem in _STEMS[architecture].items()
    }
    if config.variant and all(component.variant != config.variant for component in found.values()):
        raise ModelMissingError(f"{folder} has no weights of the variant {config.variant}")
    names = ("tokenizer", "tokenizer_2") if architecture == "sdxl" else ("tokenizer",)
    return ModelFiles(
        family="sdxl" if architecture == "sdxl" else _tell_sd_version(found["unet"]),
        source=folder,
        components=found,
        variants={},
        tokenizers=tuple(folder / name for name in names),
        scheduler=folder / "scheduler",
        force_zeros_for_empty_prompt=_read_zeros_for_empty(folder),
    )


def _tell_sd_version(unet: ComponentFiles) -> FamilyName:
    """2.x projects into its transformers linearly, 1.x by convolutions."""
    linear = diffusers_layout.read_object(unet.folder / "config.json").get(
        "use_linear_projection", False
    )
    return "sd21" if linear else "sd15"


def _find_in_file(path: Path, config: DiffusionConfig) -> ModelFiles:
    known = single_file.recognise_model(path, safetensors_header.read(path))
    base = _find_base(path, config)
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
        components={
            name: SingleFileComponent(
                path=path, config=configuration(name, "config.json"), prefix=prefix
            )
            for name, prefix in prefixes.items()
        },
        variants={},
        tokenizers=_find_tokenizers(base, known.family),
        scheduler=configuration("scheduler", "scheduler_config.json").parent,
        scheduler_overrides=known.scheduler_overrides,
        force_zeros_for_empty_prompt=_read_zeros_for_empty(base)
        if (base / diffusers_layout.INDEX).is_file()
        else True,
    )


def _find_base(path: Path, config: DiffusionConfig) -> Path:
    patterns = ("*.json", "*/*.json", "*/*.txt")
    try:
        return sources.resolve_folder(config.base or BASE, patterns, download=config.download)
    except ModelMissingError as error:
        raise ModelMissingError(
            f"{path} contains no tokenizer, like all models in one file, and there is none in the "
            f"local cache: set `base` to a directory in diffusers' layout that has one, or run "
            f"`atelier models pull` once with network access; base: {error}"
        ) from error


def _find_tokenizers(base: Path, family: FamilyName) -> tuple[Path, ...]:
    there = [base / name for name in _TOKENIZERS[family] if (base / name).is_dir()]
    count = len(single_file.TEXT_ENCODERS[family])
    if len(there) < count:
        raise ModelMissingError(
            f"{base} has no {' and '.join(_TOKENIZERS[family][:count])}, which a model of the "
            f"family {family} needs; set `base` to a directory or hub id that has"
        )
    return tuple(there[:count])


def _find_vae(name: str, own: ComponentSource, config: DiffusionConfig) -> ComponentSource:
    path = sources.resolve_component(name, "vae", download=config.download)
    if path.is_dir():
        return diffusers_layout.find_component(path, _STEMS["sd"]["vae"], None)
    safetensors_header.read(path)
    return SingleFileComponent(path=path, config=find_config(own))


def _find_variant(name: str, own: ComponentSource, config: DiffusionConfig) -> ComponentSource:
    path = sources.resolve_component(name, "unet", download=config.download)
    if path.is_dir():
        return diffusers_layout.find_component(path, _STEMS["sd"]["unet"], config.variant)
    if not single_file.is_lora(safetensors_header.read(path)):
        return SingleFileComponent(path=path, config=find_config(own))
    if isinstance(own, MergedComponent):
        raise TypeError("a model's own denoiser has no LoRA merged into it")
    return MergedComponent(base=own, lora=path)


def find_config(component: ComponentSource) -> Path:
    """The config.json of a component."""
    match component:
        case ComponentFiles():
            return component.folder / "config.json"
        case SingleFileComponent():
            return component.config
        case MergedComponent():
            return find_config(component.base)


def _read_zeros_for_empty(folder: Path) -> bool:
    return bool(
        diffusers_layout.read_object(folder / diffusers_layout.INDEX).get(
            "force_zeros_for_empty_prompt", True
        )
    )


def _is_inside(path: Path, source: Path) -> bool:
    return path == source or path.is_relative_to(source)
