"""Keeps exported graphs in a directory, each under a key of everything that it was made from."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from atelier_engines.diffusion.runtimes.graphs.export import OPSET, export
from atelier_engines.diffusion.runtimes.graphs.graph import Graph
from atelier_engines.local.weights.digests import digest_file

_log = logging.getLogger(__name__)

_FORMAT = 1
"""Raise it when a wrapper changes, so that graphs are exported anew."""
_FILE = "model.onnx"
_PACKAGES = ("torch", "diffusers", "transformers", "onnxscript")


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphStore:
    """See the module. Several processes may use one directory."""

    directory: Path
    """Where the files are; made when the first is written."""

    def provide(
        self,
        graph: Graph,
        *,
        files: Sequence[Path],
        settings: Mapping[str, object],
        load: Callable[[], torch.nn.Module],
    ) -> Path:
        """The file of an exported graph; the network is loaded and exported if there is none yet.

        Args:
            graph: its specification.
            files: the files of its weights.
            settings: the network's configuration.
            load: returns the network, on the CPU and in evaluation mode.

        Raises:
            OSError: the directory cannot be written to.
            Exception: whatever `load` and the export raise.
        """
        folder = self.directory / _key(graph, files, settings)
        path = folder / _FILE
        if not path.exists():
            self._write(graph, load(), folder)
        return path

    def _write(self, graph: Graph, module: torch.nn.Module, folder: Path) -> None:
        """Write all files of a graph into another directory, and rename that when they are whole."""
        self.directory.mkdir(parents=True, exist_ok=True)
        _log.info("graph_export_started", extra={"graph": graph.name})
        with TemporaryDirectory(
            dir=self.directory, prefix=".export-", ignore_cleanup_errors=True
        ) as temporary:
            made = Path(temporary) / "made"
            made.mkdir()
            export(graph, module, made / _FILE)
            for file in made.iterdir():
                _sync(file)
            try:
                made.rename(folder)
            except OSError:  # another process was faster
                if not (folder / _FILE).exists():
                    raise
        _log.info("graph_exported", extra={"graph": graph.name, "file": str(folder / _FILE)})


def _key(graph: Graph, files: Sequence[Path], settings: Mapping[str, object]) -> str:
    made_from = {
        "format": _FORMAT,
        "opset": OPSET,
        "graph": [graph.name, repr(graph.inputs), graph.outputs],
        "weights": [digest_file(path) for path in files],
        "settings": settings,
        "versions": {name: version(name) for name in _PACKAGES},
    }
    text = json.dumps(made_from, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
