"""Renders the chart for tests, by a process with Helm's own library."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

CHART = ROOT / "helm" / "atelier"
PYTHON = ROOT / ".tools" / "sdk" / "chart" / "bin" / "python"
GOLDEN = Path(__file__).with_name("golden")
PROGRAM = Path(__file__).with_name("helm_program.py")
OPEN: Mapping[str, Any] = {"allowInsecure": True}
"""The fewest values with which the chart renders."""


class RejectedValuesError(Exception):
    """Helm rendered nothing; its message says why."""


@dataclass(frozen=True, slots=True)
class Release:
    """What the chart renders."""

    objects: Sequence[Mapping[str, Any]]
    """The objects, in the order of Helm."""
    notes: str
    """What Helm prints after an installation."""

    def find(self, kind: str, ending: str = "") -> Mapping[str, Any]:
        """The one object of the kind whose name ends so."""
        found = [
            item
            for item in self.objects
            if item["kind"] == kind and item["metadata"]["name"].endswith(ending)
        ]
        assert len(found) == 1, (kind, [item["metadata"]["name"] for item in found])
        return found[0]

    @property
    def kinds(self) -> set[str]:
        """The kinds of its objects."""
        return {item["kind"] for item in self.objects}

    @property
    def pod(self) -> Mapping[str, Any]:
        """The specification of the server's pod."""
        pod: Mapping[str, Any] = self.find("StatefulSet")["spec"]["template"]["spec"]
        return pod

    @property
    def container(self) -> Mapping[str, Any]:
        """The server's container."""
        container: Mapping[str, Any] = self.pod["containers"][0]
        return container

    @property
    def configurations(self) -> Mapping[str, str]:
        """Configuration files by the names of their objects."""
        return {
            item["metadata"]["name"]: item["data"]["atelier.yaml"]
            for item in self.objects
            if item["kind"] == "ConfigMap" and "atelier.yaml" in item["data"]
        }

    @property
    def configuration(self) -> str:
        """The configuration file of the one server."""
        (text,) = self.configurations.values()
        return text


@dataclass(slots=True)
class Helm:
    """The process that renders; it answers one command at a time."""

    _process: subprocess.Popen[str] = field(
        default_factory=lambda: subprocess.Popen(
            [PYTHON, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    )

    def render(self, values: Mapping[str, Any]) -> Release:
        """The release `media` in the namespace `studio`.

        Raises:
            RejectedValuesError: by the schema or by a template.
        """
        files: Mapping[str, str] = self._ask(
            "render", chart=str(CHART), values=values, name="media", namespace="studio"
        )
        documents = [
            document
            for name, text in sorted(files.items())
            if not name.endswith("NOTES.txt")
            for document in yaml.safe_load_all(text)
            if document
        ]
        notes = next((text for name, text in files.items() if name.endswith("NOTES.txt")), "")
        return Release(documents, notes)

    def lint(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """What `helm lint --strict` says."""
        said: Mapping[str, Any] = self._ask("lint", chart=str(CHART), values=values)
        return said

    def find_errors(self, objects: Sequence[Mapping[str, Any]], version: str) -> Sequence[str]:
        """What is wrong with each object in that version of Kubernetes, unknown keys included; empty if nothing."""
        errors: Sequence[str] = self._ask("validate", objects=objects, version=version)
        return errors

    def close(self) -> None:
        """End the process."""
        self._process.communicate()

    def _ask(self, do: str, **command: object) -> Any:  # noqa: ANN401 - whatever it answers
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **command}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise RejectedValuesError(answer["error"])
        return answer["result"]


def read_example(name: str) -> Mapping[str, Any]:
    """The values of an example of the chart."""
    values: Mapping[str, Any] = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    return values


EXAMPLES = sorted(path.stem for path in (CHART / "examples").glob("*.yaml"))


def put(path: str, value: object) -> dict[str, Any]:
    """Values with one of them, at a path such as service.port."""
    for key in reversed(path.split(".")):
        value = {key: value}
    assert isinstance(value, dict)
    return value


def merge(*values: Mapping[str, Any]) -> dict[str, Any]:
    """Several values as one; of two for the same key, the later one."""
    merged: dict[str, Any] = {}
    for one in values:
        for key, item in one.items():
            old = merged.get(key)
            both = isinstance(item, Mapping) and isinstance(old, Mapping)
            merged[key] = merge(old or {}, item) if both else item
    return merged


needs_helm = pytest.mark.skipif(
    not PYTHON.exists(), reason="`make sdks` installs Helm's library and the schemas of Kubernetes"
)
