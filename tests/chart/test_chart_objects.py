"""Everything that the chart renders is what Kubernetes, its extensions and rules of others expect."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tests.chart.charts import EXAMPLES, OPEN, Helm, merge, needs_helm, read_example
from tests.chart.test_chart_options import EVERYTHING, ISSUED
from tests.chart.test_chart_pools import POOLED, SCALED
from tests.conftest import ROOT

pytestmark = needs_helm

CRDS = ROOT / ".tools" / "crds"
CHECKOV = ROOT / ".tools" / "sdk" / "checkov" / "bin" / "checkov"
VERSIONS = ("1.30", "1.33", "1.34", "1.35", "1.37")
ALLOWED = {
    "CKV_K8S_8": "the pod of `helm test` ends by itself, so it has no probes",
    "CKV_K8S_9": "the same",
    "CKV_K8S_11": "a limit of CPU slows work down while the node is idle",
    "CKV_K8S_15": "an image is pulled again only where its tag moves; tags of releases do not",
    "CKV_K8S_35": "the configuration reads keys of services from the environment",
    "CKV_K8S_43": "examples cannot know the digest of an image that everybody builds",
    "CKV2_K8S_6": "the pod of `helm test` may be reached by nobody that matters",
}
"""Rules of checkov that do not hold here, and why."""
CASES: Mapping[str, Mapping[str, Any]] = {
    "defaults": OPEN,
    "everything": EVERYTHING,
    "issued": ISSUED,
    "pooled": POOLED,
    "scaled": SCALED,
    "stopped": merge(OPEN, {"running": False, "persistence": {"data": {"enabled": False}}}),
    **{name: read_example(name) for name in EXAMPLES},
}


@pytest.mark.parametrize(
    ("case", "version"),
    [
        (case, version)
        for case, values in CASES.items()
        for version in VERSIONS
        if version >= "1.34" or values not in (ISSUED, SCALED)  # dynamic resource allocation
    ],
)
def test_objects_are_valid_in_each_version_of_kubernetes(
    helm: Helm, case: str, version: str
) -> None:
    """By the strict schemas of that version; objects of extensions have a test of their own."""
    objects = [
        item for item in helm.render(CASES[case]).objects if item["apiVersion"] not in EXTENSIONS
    ]
    assert list(filter(None, helm.find_errors(objects, version))) == []


EXTENSIONS = {
    "cert-manager.io/v1",
    "gateway.networking.k8s.io/v1",
    "keda.sh/v1alpha1",
    "monitoring.coreos.com/v1",
}


def read_definitions() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """Schemas of the extensions' objects by version and kind, closed to unknown keys."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for path in CRDS.glob("*.yaml"):
        spec = yaml.load(path.read_text(), yaml.CSafeLoader)["spec"]
        for version in spec["versions"]:
            name = (f"{spec['group']}/{version['name']}", spec["names"]["kind"])
            found[name] = close_schema(version["schema"]["openAPIV3Schema"])
    return found


def close_schema(schema: Any) -> Any:  # noqa: ANN401 - a schema is any JSON
    """The schema, in which an object has no keys but its own, as an API server sees it."""
    if isinstance(schema, list):
        return [close_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: close_schema(item) for key, item in schema.items()}
    properties = schema.get("properties")
    is_open = schema.get("x-kubernetes-preserve-unknown-fields") or not isinstance(properties, dict)
    if schema.get("type") == "object" and not is_open:
        closed["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


@pytest.fixture(scope="module")
def definitions() -> Mapping[tuple[str, str], Mapping[str, Any]]:
    """What the extensions define, where `make crds` could fetch it."""
    if not CRDS.exists():
        pytest.skip("`make crds` fetches the definitions, with Go")
    return read_definitions()


@pytest.mark.parametrize("case", CASES)
def test_objects_of_extensions_are_valid(
    helm: Helm, definitions: Mapping[tuple[str, str], Mapping[str, Any]], case: str
) -> None:
    """By the definitions that cert-manager, Gateway API, KEDA and the Prometheus operator install."""
    for item in helm.render(CASES[case]).objects:
        if item["apiVersion"] in EXTENSIONS:
            schema = definitions[item["apiVersion"], item["kind"]]
            body = {key: value for key, value in item.items() if key != "metadata"}
            jsonschema.Draft202012Validator(schema).validate(body)


def test_an_unknown_key_of_an_extension_is_found(
    definitions: Mapping[tuple[str, str], Mapping[str, Any]],
) -> None:
    """Timeouts, which a GRPCRoute does not have, are rejected."""
    schema = definitions["gateway.networking.k8s.io/v1", "GRPCRoute"]
    with pytest.raises(jsonschema.ValidationError, match="timeouts"):
        jsonschema.Draft202012Validator(schema).validate({"spec": {"rules": [{"timeouts": {}}]}})


def test_an_unknown_key_of_kubernetes_is_found(helm: Helm) -> None:
    """The schemas are strict."""
    spec = {"containers": [{"name": "a", "imagee": "b"}]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": spec}
    assert "imagee" in helm.find_errors([pod], "1.37")[0]


@pytest.mark.parametrize("case", CASES)
def test_helm_has_nothing_to_say(helm: Helm, case: str) -> None:
    """`helm lint --strict` passes; an icon is all that it misses."""
    said = helm.lint(CASES[case])
    assert said["errors"] == []
    assert [message["error"] for message in said["messages"]] == ["icon is recommended"]


@pytest.mark.skipif(not CHECKOV.exists(), reason="`make sdks` installs checkov")
def test_checkov_has_nothing_to_say(helm: Helm, tmp_path: Path) -> None:
    """Its rules for Kubernetes hold, but for those that ALLOWED gives a reason for."""
    for name in EXAMPLES:
        objects = helm.render(read_example(name)).objects
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump_all(objects))
    command: list[str | Path] = [
        *(CHECKOV, "--directory", tmp_path, "--framework", "kubernetes", "--output", "json"),
        *("--skip-check", ",".join(ALLOWED), "--skip-download", "--quiet"),
    ]
    ended = subprocess.run(command, capture_output=True, text=True)  # noqa: PLW1510 - its status is among the findings
    report = json.loads(ended.stdout)
    failed = [
        (check["check_id"], check["check_name"], check["resource"])
        for check in report["results"]["failed_checks"]
    ]
    assert failed == []
    assert report["summary"]["passed"] > 100
