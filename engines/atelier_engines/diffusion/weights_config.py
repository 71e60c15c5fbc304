"""The keys of a diffusion engine's section that name its weights."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from atelier_engines.config import Section
from atelier_engines.local.weights.addresses import is_address, require_allowed
from atelier_engines.task import ControlType

TINY = "atelier-tiny"
"""The model in the package `atelier_tiny`."""

_Name = Annotated[str, Field(min_length=1, max_length=128)]

_Steps = Annotated[int, Field(ge=1, le=150)]


class Preprocessors(Section):
    """Models that compute control images from photos; each a directory or a Hugging Face hub id."""

    depth: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Estimates depth, as transformers' AutoModelForDepthEstimation loads it, for instance "
            "`depth-anything/Depth-Anything-V2-Small-hf`."
        ),
    )
    pose: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Estimates the joints of people: a VitPose of transformers with COCO's 17 joints, for "
            "instance `usyd-community/vitpose-base-simple`."
        ),
    )
    people: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Detects the people whose pose is estimated, as transformers' AutoModelForObjectDetection "
            "loads it, for instance `PekingU/rtdetr_r50vd_coco_o365`. Unset: the whole photo is "
            "treated as one person."
        ),
    )
    segmentation: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Segments photos into the 150 classes of ADE20K, as transformers' "
            "AutoModelForSemanticSegmentation loads it, for instance "
            "`openmmlab/upernet-convnext-small`."
        ),
    )


class WeightsConfig(Section):
    """The weights of a diffusion engine; its settings begin with them."""

    model_config = ConfigDict(protected_namespaces=())

    model: str = Field(
        default=TINY,
        min_length=1,
        description=(
            "The weights: a directory in diffusers' layout, one `.safetensors` file in the original "
            "layout, a Hugging Face hub id (`owner/name`, or `owner/name/file.safetensors` for one "
            "file), or `atelier-tiny` for the small model that is part of Atelier."
        ),
    )
    fallback_model: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Weights to use at once where `model` cannot be loaded, given like `model`; the log, the capabilities and "
            "the receipts say so. They come with their own defaults: settings of the model's files and of its steps, "
            "guidance, size and scheduler do not hold for them. Unset: the engine is unavailable, and tries again."
        ),
    )
    revision: str | None = Field(
        default=None,
        description="Branch, tag or commit of a hub id; a commit pins it. Unset: the main branch.",
    )
    variant: str | None = Field(
        default=None,
        pattern="^[a-z0-9_]+$",
        description=(
            "Which weight files to use if a model has several sets, for instance `fp16`. "
            "Unset: those without a variant, else any."
        ),
    )
    base: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "For a model in one file, which has no tokenizers: a directory in diffusers' layout or "
            "a hub id that they are taken from, and the configurations if it has any; its "
            "weights are not needed. Unset: `stabilityai/stable-diffusion-xl-base-1.0`."
        ),
    )
    vae: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "Another autoencoder than the model's: a directory, a `.safetensors` file, or a hub "
            "id, for instance `madebyollin/sdxl-vae-fp16-fix`."
        ),
    )
    variants: dict[_Steps, str] = Field(
        default_factory=dict,
        description=(
            "Denoisers by the number of steps that they were made for, each a `.safetensors` file "
            "or `owner/name/file.safetensors` on the hub: all of a denoiser's weights, or a LoRA "
            "for the model's denoiser. Other numbers of steps are then refused."
        ),
    )
    controlnets: dict[ControlType, str] = Field(
        default_factory=dict,
        description=(
            "ControlNets by control type (`canny`, `depth`, `pose`, `segmentation`): directories, "
            "`.safetensors` files or hub ids. The small model has its own."
        ),
    )
    max_controls: int = Field(
        default=3,
        ge=1,
        le=8,
        description="Most control images in one task, if there are ControlNets.",
    )
    preprocessors: Preprocessors = Field(
        default=Preprocessors(),
        description=(
            "Models that compute depth, poses and segments from a photo. Edges (`canny`) need none."
        ),
    )
    loras: dict[_Name, str] = Field(
        default_factory=dict,
        description=(
            "LoRAs by the names that callers use: `.safetensors` files, directories with "
            "`pytorch_lora_weights.safetensors`, or hub ids (`owner/name`, or "
            "`owner/name/file.safetensors`), or addresses (`https://HOST/PATH#sha256=DIGEST`) on one of "
            "`lora_hosts`. The small model has its own."
        ),
    )
    lora_hosts: tuple[str, ...] = Field(
        default=(),
        description=(
            "Hosts that LoRAs may be downloaded from, redirections included; `.example.org` stands for all below it."
        ),
    )
    lora_directory: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A directory of LoRAs: every `.safetensors` file by its name without the suffix, and "
            "every directory that contains one. It is read at the start."
        ),
    )
    max_loras: int = Field(
        default=8, ge=1, le=32, description="Most LoRAs in one task, if there are any."
    )
    max_loaded_loras: int = Field(
        default=16,
        ge=1,
        le=1024,
        description=(
            "Most LoRAs in memory at once; the least recently used are removed first. At least "
            "`max_loras` are kept."
        ),
    )
    embeddings: dict[_Name, str] = Field(
        default_factory=dict,
        description=(
            "Textual inversion embeddings by the names that callers use: `.safetensors` files, directories with "
            "`learned_embeds.safetensors`, or hub ids (`owner/name`, or `owner/name/file.safetensors`)."
        ),
    )
    embedding_directory: str | None = Field(
        default=None,
        min_length=1,
        description=(
            "A directory of embeddings: every `.safetensors` file by its name without the suffix, and every directory "
            "that contains one. It is read at the start. Where prompts have a syntax (`prompt_syntax`), a prompt that "
            "contains such a name uses the embedding."
        ),
    )
    digest: str | None = Field(
        default=None,
        pattern="^[0-9a-f]{64}$",
        description=(
            "SHA-256 that the weights must have, as `atelier models list` shows it. With any other "
            "digest the engine does not start."
        ),
    )

    @model_validator(mode="after")
    def _allow_addresses(self) -> Self:
        for name, source in self.loras.items():
            if is_address(source):
                try:
                    require_allowed(source, self.lora_hosts)
                except ValueError as error:
                    raise ValueError(f"loras.{name}: {error}") from error
        return self
