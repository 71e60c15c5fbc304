"""Fetches TensorRT's libraries for engines whose networks it runs. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable

from atelier_engines.diffusion.config import DiffusionConfig
from atelier_engines.diffusion.runtimes.tensorrt import fetching, releases
from atelier_engines.local.builds.store import BuildStore, find_directory


def fetch(config: DiffusionConfig, repository: str, report: Callable[[str], None]) -> None:
    """See LibraryFetcher."""
    if "tensorrt" not in config.runtimes.names:
        report("no component is run by tensorrt")
        return
    if releases.are_packaged():
        report("already installed as a package")
        return
    store = BuildStore(directory=find_directory(config.builds_directory))
    fetching.fetch(releases.find_installed(), repository, store, report)
