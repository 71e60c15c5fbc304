"""Capabilities of a comfyui engine."""

from __future__ import annotations

from dataclasses import replace

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    Reproducibility,
)
from atelier_engines.options import build_options_schema
from atelier_engines.vendors.comfy_capabilities import (
    Inventory,
    build_capabilities,
    minimal_capabilities,
)
from atelier_engines.vendors.comfy_options import WorkflowOptions, limit_overrides
from atelier_engines.vendors.comfyui.config import ComfyuiConfig


def unprobed_capabilities(config: ComfyuiConfig) -> Capabilities:
    """Capabilities before any server has been asked."""
    image = minimal_capabilities(config, max_images=config.max_images)
    return _capabilities(config, image, version="")


def probed_capabilities(
    config: ComfyuiConfig, inventory: Inventory, *, version: str
) -> Capabilities:
    """Capabilities with the nodes and files that the servers have."""
    image = build_capabilities(
        config,
        inventory,
        max_images=config.max_images,
        previews=config.preview_method != "none",
    )
    capabilities = _capabilities(config, image, version=version)
    workflows = inventory.workflows.values()
    schema = limit_overrides(capabilities.options_schema, workflows, config)
    return replace(capabilities, options_schema=schema)


def _capabilities(config: ComfyuiConfig, image: ImageCapabilities, *, version: str) -> Capabilities:
    return Capabilities(
        description=f"Workflows for {config.family} on ComfyUI",
        image=image,
        concurrency=config.concurrency,
        cancel=CancelSupport.REMOTE,
        resumable=True,
        reproducibility=Reproducibility.BEST_EFFORT,
        price=config.listed_price,
        options_schema=build_options_schema(WorkflowOptions),
        versions={"comfyui": version} if version else {},
    )
