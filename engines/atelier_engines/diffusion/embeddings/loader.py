"""The embeddings of a model: loaded on first use, for the prompts of one task after the other."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

from atelier_engines.diffusion.embeddings.catalog import list_bundled
from atelier_engines.diffusion.embeddings.reading import TextualInversion, read, read_bundled
from atelier_engines.errors import InvalidTaskError, UnsupportedError

_MAX_LOADED = 256  # of 75 vectors for SDXL they take 150 MiB


class EmbeddingLoader:
    """Finds embeddings by name, also those that active LoRAs bring along. For one thread at a time."""

    def __init__(
        self, files: Mapping[str, Path], loras: Mapping[str, Path], widths: Sequence[int]
    ) -> None:
        """Offer the embeddings in these files.

        Args:
            files: the embeddings by name.
            loras: the LoRAs by name; their files may hold embeddings too.
            widths: how long the vectors of the model's text encoders are, in the family's order.
        """
        self._files = files
        self._loras = loras
        self._widths = tuple(widths)
        self._loaded: OrderedDict[tuple[str, Path], TextualInversion] = OrderedDict()
        found = {lora: list_bundled(path) for lora, path in loras.items()}
        self._bundled = {lora: names for lora, names in found.items() if names}

    @property
    def bundled(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the embeddings that LoRAs bring along, by LoRA; only of those that bring any."""
        return self._bundled

    def find(self, names: Sequence[str], loras: Sequence[str]) -> tuple[TextualInversion, ...]:
        """The embeddings of these names.

        Args:
            names: words of the task's prompts.
            loras: names of the active LoRAs; what they bring along takes precedence.

        Raises:
            UnsupportedError: there is no embedding of that name.
            InvalidTaskError: two of the LoRAs bring one of that name along.
            ModelMissingError: one is broken, of another format, or for another model.
        """
        return tuple(self._find(name, loras) for name in dict.fromkeys(names))

    def _find(self, name: str, loras: Sequence[str]) -> TextualInversion:
        owners = [lora for lora in loras if name in self._bundled.get(lora, ())]
        if len(owners) > 1:
            raise InvalidTaskError(
                "embeddings",
                f"the LoRAs {' and '.join(owners)} both bring an embedding {name}; use one of them",
            )
        path = self._loras[owners[0]] if owners else self._files.get(name)
        if path is None:
            known = ", ".join(self._files) or "none"
            raise UnsupportedError(
                "embeddings", f"there is no embedding {name!r} here; there is {known}"
            )
        return self._load(name, path, is_bundled=bool(owners))

    def _load(self, name: str, path: Path, *, is_bundled: bool) -> TextualInversion:
        key = (name, path)
        found = self._loaded.pop(key, None)
        if found is None:
            found = (read_bundled if is_bundled else read)(name, path, self._widths)
        self._loaded[key] = found
        while len(self._loaded) > _MAX_LOADED:
            self._loaded.popitem(last=False)
        return found
