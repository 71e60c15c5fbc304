"""Capabilities that all engines of hosted services share."""

from __future__ import annotations

from pydantic import BaseModel

from atelier_engines.capabilities import (
    CancelSupport,
    Capabilities,
    ImageCapabilities,
    Reproducibility,
)
from atelier_engines.options import NoOptions, build_options_schema
from atelier_engines.vendors.config import RemoteConfig


def build_service_capabilities(
    config: RemoteConfig,
    image: ImageCapabilities,
    *,
    description: str,
    cancellable: bool = False,
    options: type[BaseModel] = NoOptions,
) -> Capabilities:
    """The capabilities of an engine for one hosted service, whose results are repeatable at best effort.

    Args:
        config: of the engine; price and concurrency are taken from it.
        image: what the service can do with images.
        description: one line for people.
        cancellable: whether the service can cancel a job.
        options: model of a task's options.
    """
    return Capabilities(
        description=description,
        image=image,
        concurrency=config.concurrency,
        cancel=CancelSupport.REMOTE if cancellable else CancelSupport.NONE,
        resumable=True,
        reproducibility=Reproducibility.BEST_EFFORT,
        price=config.listed_price,
        billed=True,
        options_schema=build_options_schema(options),
    )
