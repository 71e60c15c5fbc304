"""The manifest beside the files of a build: what they are, and how far they differ from torch."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field, ValidationError

from atelier_engines.local.builds.key import CLOSED, BuildKey, digest_values
from atelier_engines.local.weights import digests

NAME = "manifest.json"

_SHA256 = r"^[0-9a-f]{64}$"
_MAX_BYTES = 2**20


class BuildRefusedError(Exception):
    """The files of a build are not what they should be; the message names the file and what is wrong."""


class BuiltFile(BaseModel):
    """One file of a build."""

    model_config = CLOSED

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
    """Its name in the build's directory."""
    size: Annotated[int, Field(ge=0)]
    """Bytes."""
    sha256: Annotated[str, Field(pattern=_SHA256)]
    """SHA-256 of its bytes, in hexadecimal."""


class Deviation(BaseModel):
    """How far an output of a build is from that of torch, over all inputs that were tried."""

    model_config = CLOSED

    output: str
    """Name of the output."""
    largest_error: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The largest absolute difference."""
    largest_value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    """The largest absolute value of torch's output at the place of that error's input."""

    @property
    def relative(self) -> float:
        """The error as a fraction of the largest value."""
        return self.largest_error / self.largest_value if self.largest_value else self.largest_error


class Manifest(BaseModel):
    """What a build is."""

    model_config = CLOSED

    format: Literal[1] = 1
    """Version of this schema."""
    key: BuildKey
    """What it was made from."""
    files: Annotated[tuple[BuiltFile, ...], Field(min_length=1)]
    """All files beside the manifest; the first is the one to open."""
    deviations: tuple[Deviation, ...]
    """What was measured before it was kept."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] | None
    """The largest relative deviation that was allowed; None for files that compute nothing of their own."""
    built_at: str
    """Date and time, ISO 8601 in UTC."""
    seconds: Annotated[float, Field(ge=0)]
    """How long it took to build."""


class _Signed(BaseModel):
    model_config = CLOSED

    manifest: Manifest
    sha256: str


def describe_files(folder: Path, names: Sequence[str]) -> tuple[BuiltFile, ...]:
    """Sizes and digests of the files of these names in a directory.

    Raises:
        OSError: one cannot be read.
    """
    return tuple(
        BuiltFile(
            name=name,
            size=(folder / name).stat().st_size,
            sha256=digests.digest_file(folder / name),
        )
        for name in names
    )


def encode(manifest: Manifest) -> str:
    """The manifest as the text of its file, with a digest of itself against damage."""
    values = manifest.model_dump(mode="json")
    signed = {"manifest": values, "sha256": digest_values(values)}
    return json.dumps(signed, indent=2, sort_keys=True) + "\n"


def read(path: Path) -> Manifest:
    """The manifest in a file.

    Raises:
        BuildRefusedError: it is absent, damaged, or of another format.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_BYTES)
        found = _Signed.model_validate_json(text)
    except FileNotFoundError as error:
        raise BuildRefusedError(f"{path} is absent") from error
    except OSError as error:
        raise BuildRefusedError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "its JSON"
        problem = error.errors()[0]["msg"]
        raise BuildRefusedError(f"{path} is damaged: {where}: {problem}") from error
    if encode(found.manifest).encode() != text:
        raise BuildRefusedError(f"{path} is damaged: its digest does not match")
    return found.manifest
