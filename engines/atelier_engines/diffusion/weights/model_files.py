"""Finds and recognises all files of a configured model; loads none of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.weights import diffusers_layout, single_file
from atelier_engines.diffusion.weights.diffusers_layout import ComponentFiles
from atelier_engines.diffusion.weights.marks import Marks, read_marks
from atelier_engines.diffusion.weights.model_source import resolve_model
from atelier_engines.diffusion.weights.prediction import (
    Sampling,
    decide_sampling,
    read_prediction,
)
from atelier_engines.diffusion.weights.single_file import FamilyName
from atelier_engines.errors import ModelMissingError
from atelier_engines.local.weights import digests, safetensors_header, sources
from atelier_engines.local.weights.quantization import find_quantization

CONFIGURATIONS = Path(__file__).parent / "configurations"
"""Configurations of the families' components, for models in one file, which have none."""

SCHEDULER_FILE = "scheduler_config.json"

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
    sampling: Sampling
    """The scheduler's configuration, and what says so."""
    vae_overrides: Mapping[str, object] = field(default_factory=dict)
    """Values to change in the autoencoder's configuration."""
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
    if config.prediction_type is None and config.preset is None:
        _require_same_prediction(variants.values(), found.sampling)
    return replace(found, components=components, variants=variants)


def _require_same_prediction(variants: Iterable[ComponentSource], model: Sampling) -> None:
    """Return unless the file of a denoiser says that it predicts something else than the model."""
    for variant in variants:
        if not isinstance(variant, SingleFileComponent):
            continue
        marks = read_marks(variant.path, safetensors_header.read_header(variant.path))
        for source, prediction in marks.predictions.items():
            if prediction != model.prediction:
                raise ModelMissingError(
                    f"{variant.path} is {prediction} by {source}, and the model {model.reasons[0]}; "
                    "set `prediction_type` to what all of them predict"
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
    if architecture == "sdxl" and _lacks_first_text_encoder(folder):
        raise ModelMissingError(f"{folder} is a refiner of SDXL, which does no text-to-image")
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
        sampling=_read_sampling(folder, config),
        force_zeros_for_empty_prompt=_read_zeros_for_empty(folder),
    )


def _lacks_first_text_encoder(folder: Path) -> bool:
    """Whether the index says that there is none, as that of SDXL's refiner does."""
    index = diffusers_layout.read_object(folder / diffusers_layout.INDEX)
    return "text_encoder_2" in index and index.get("text_encoder") in (None, [None, None])


def _read_sampling(folder: Path, config: DiffusionConfig) -> Sampling:
    path = folder / "scheduler" / SCHEDULER_FILE
    own = diffusers_layout.read_object(path)
    if config.prediction_type is None:
        prediction, reason = read_prediction(own), f"scheduler/{SCHEDULER_FILE}"
    else:
        prediction, reason = config.prediction_type, "the configuration"
        own = {**own, "prediction_type": prediction}
    return Sampling(prediction=prediction, scheduler=own, reasons=(f"{prediction} by {reason}",))


def _tell_sd_version(unet: ComponentFiles) -> FamilyName:
    """2.x projects into its transformers linearly, 1.x by convolutions."""
    linear = diffusers_layout.read_object(unet.folder / "config.json").get(
        "use_linear_projection", False
    )
    return "sd21" if linear else "sd15"


def _find_in_file(path: Path, config: DiffusionConfig) -> ModelFiles:
    header = safetensors_header.read_header(path)
    family = single_file.recognise_family(
        path, header.tensors, needs_autoencoder=config.vae is None
    )
    marks = read_marks(path, header)
    base = _find_base(path, config)
    shipped = CONFIGURATIONS / family
    prefixes = {
        **single_file.find_text_encoders(family, header.tensors),
        "unet": single_file.DENOISER,
        "vae": single_file.AUTOENCODER,
    }

    def configuration(name: str) -> Path:
        own = base / name / "config.json"
        return own if config.base is not None and own.is_file() else shipped / name / "config.json"

    own = base / "scheduler" / SCHEDULER_FILE
    has_own = config.base is not None and own.is_file()
    return ModelFiles(
        family=family,
        source=path,
        components={
            name: SingleFileComponent(path=path, config=configuration(name), prefix=prefix)
            for name, prefix in prefixes.items()
        },
        variants={},
        tokenizers=_find_tokenizers(base, family),
        sampling=decide_sampling(
            path,
            header,
            family,
            marks,
            configured=config.prediction_type,
            base=diffusers_layout.read_object(own) if has_own else None,
            shipped=diffusers_layout.read_object(shipped / "scheduler" / SCHEDULER_FILE),
        ),
        vae_overrides=_scale_latents(marks),
        force_zeros_for_empty_prompt=_read_zeros_for_empty(base)
        if (base / diffusers_layout.INDEX).is_file()
        else True,
    )


def _scale_latents(marks: Marks) -> Mapping[str, object]:
    """How the latents of a model are scaled that says so in its file.

    Source: diffusers 0.42.1, loaders/single_file_utils.py, create_vae_diffusers_config_from_ldm.
    """
    if marks.edm is None or marks.edm.mean is None:
        return {}
    return {
        "scaling_factor": 0.5,
        "latents_mean": list(marks.edm.mean),
        "latents_std": list(marks.edm.std or ()),
    }


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
