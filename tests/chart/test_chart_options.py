"""Every value of the chart does what it says, and values that contradict each other are rejected."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import yaml

from tests.chart.charts import (
    CHART,
    OPEN,
    Helm,
    RejectedValuesError,
    Release,
    merge,
    needs_helm,
    put,
)
from tests.chart.test_chart_pools import POOLED, SCALED

pytestmark = needs_helm

DEFAULTS: Mapping[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
EVERYTHING = merge(
    OPEN,
    {
        "config": {"engines": {"sketch": {"type": "sketch", "timeout_seconds": 30}}},
        "persistence": {"models": {"enabled": True}, "cache": {"enabled": True}},
        "sharedMemory": {"enabled": True},
        "prepare": {"pullModels": True, "build": True},
        "tls": {"enabled": True, "existingSecret": "tls", "clientCertificates": "required"},
        "auth": {"keys": {"existingSecret": "keys"}},
        "gpu": {"count": 1},
        "service": {"type": "LoadBalancer"},
        "http": {"enabled": True},
        "gatewayApi": {
            "grpcRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]},
            "backendTls": {"enabled": True},
        },
        "ingress": {"enabled": True, "hosts": ["a.example.com"]},
        "httpIngress": {"enabled": True, "hosts": ["b.example.com"]},
        "podDisruptionBudget": {"enabled": True},
        "monitoring": {
            "serviceMonitor": {"enabled": True},
            "prometheusRule": {"enabled": True},
            "dashboards": {"enabled": True},
        },
    },
)
ISSUED = merge(
    EVERYTHING,
    {
        "tls": {
            "existingSecret": "",
            "certManager": {"enabled": True, "issuer": {"name": "internal"}},
        },
        "gpu": {"count": 0, "dra": {"enabled": True}},
        "monitoring": {"serviceMonitor": {"enabled": False}, "podMonitor": {"enabled": True}},
        "prepare": {"pullModels": False, "build": False},
    },
)
OTHERS: Mapping[str, object] = {
    "pools": {"another": {}},
    "gateway.image.digest": f"sha256:{'1' * 64}",
    "gateway.resources": {"limits": {"memory": "9Gi"}},
    "gateway.topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "autoscaling.type": "keda",
    "autoscaling.keda.trigger": "prometheus",
    "autoscaling.keda.fallbackReplicas": 2,
    "networkPolicy.scalerReaders": [],
    "commonLabels": {"team": "media"},
    "commonAnnotations": {"team": "media"},
    "image.digest": f"sha256:{'0' * 64}",
    "image.pullPolicy": "Always",
    "image.pullSecrets": [{"name": "registry"}],
    "config": {"routing": "fastest"},
    "environment": {"FAL_KEY": {"existingSecret": "services", "key": "fal"}},
    "environmentFromSecrets": ["services"],
    "files": {"flux.json": "{}"},
    "listenHost": "[::]",
    "tls.clientCertificates": "off",
    "tls.certManager.issuer": {"name": "another", "kind": "ClusterIssuer"},
    "tls.certManager.dnsNames": ["atelier.example.com"],
    "persistence.data.accessModes": ["ReadWriteOncePod"],
    "persistence.models.accessModes": ["ReadOnlyMany"],
    "persistence.cache.accessModes": ["ReadWriteMany"],
    "gpu.resource": "nvidia.com/mig-1g.10gb",
    "gpu.dra.selectors": ["device.attributes['gpu.nvidia.com'].type == 'mig'"],
    "resources": {"limits": {"memory": "9Gi"}},
    "podSecurityContext": {"runAsUser": 20000},
    "securityContext": {"runAsUser": 20000},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "terminationGracePeriodSeconds": 100_000,
    "service.type": "NodePort",
    "service.nodePort": 30051,
    "service.httpNodePort": 30080,
    "gatewayApi.grpcRoute.parentRefs": [{"name": "other"}],
    "gatewayApi.httpRoute.parentRefs": [{"name": "other"}],
    "gatewayApi.backendTls.caCertificateRefs": [{"name": "ca"}],
    "networkPolicy.callers": [],
    "networkPolicy.metricsReaders": [],
    "networkPolicy.healthReaders": [],
    "networkPolicy.publicHttpsExcept": [],
    "monitoring.dashboards.labels": {"other": "1"},
}  # fmt: skip
"""Other values for keys where one of the same type is not enough."""
SILENT = {
    "allowInsecure",
    "drain.requeueLongJobs",
    "http.enabled",
    "tls.enabled",
    "tls.certManager.enabled",
}
"""Keys without which others are rejected; they have tests of their own."""


def find_leaves(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, object]]:
    """Every key of values.yaml with its default, sections of free keys as one."""
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, Mapping) and value and here not in OTHERS:
            yield from find_leaves(value, here)
        else:
            yield here, value


def find_others(path: str, now: object) -> Sequence[object]:
    """Values for the key, one of which is other than the one that it has now, and valid."""
    if path in OTHERS:
        return [OTHERS[path]]
    match now:
        case bool():
            return [not now]
        case int(number):
            return [number + 1]
        case str():
            return ["other", "7Gi", "7s"]
        case list():
            return [["other"], [{"name": "other"}]]
        case _:
            return [{"other": "thing"}]


def look_up(values: Mapping[str, Any], path: str) -> object:
    """The value at the path."""
    found: Any = values
    for key in path.split("."):
        found = found[key]
    return found


LEAVES = [path for path, _ in find_leaves(DEFAULTS) if path not in SILENT]


@pytest.fixture(scope="module")
def bases(helm: Helm) -> Sequence[tuple[Mapping[str, Any], Release]]:
    """Values from which one is changed, and what they render."""
    return [(base, helm.render(base)) for base in (EVERYTHING, ISSUED, OPEN, POOLED, SCALED)]


@pytest.mark.parametrize("path", LEAVES)
def test_each_value_has_an_effect(
    helm: Helm, bases: Sequence[tuple[Mapping[str, Any], Release]], path: str
) -> None:
    """With another value, something else is rendered; a key that does nothing would be a lie."""
    for base, before in bases:
        for other in find_others(path, look_up(merge(DEFAULTS, base), path)):
            try:
                if helm.render(merge(base, put(path, other))) != before:
                    return
            except RejectedValuesError:
                continue
    pytest.fail(f"{path} changes nothing")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"allowInsecure": False}, "neither TLS (tls.enabled) nor keys (auth.keys.existingSecret)"),
        (
            {"allowInsecure": False, "tls": {"enabled": True, "existingSecret": "tls"}},
            "it has no keys",
        ),
        ({"allowInsecure": False, "auth": {"keys": {"existingSecret": "keys"}}}, "it has no TLS"),
        ({"drain": {"seconds": 600}, "terminationGracePeriodSeconds": 300}, "make it 625, or null"),
        (
            {"config": {"engines": {"slow": {"type": "sketch", "timeout_seconds": 900}}}},
            "config.engines.slow.timeout_seconds: 900 is more than drain.seconds = 300",
        ),
        ({"config": {"engines": {"fal": {"type": "fal", "api_key": "abc"}}}}, "must be ${NAME}"),
        (
            {"config": {"engines": {"c": {"type": "comfyui", "servers": [{"token": "abc"}]}}}},
            "config.engines.c.servers[0].token: must be ${NAME}",
        ),
        (
            {"config": {"engines": {"c": {"type": "replicate", "secret_inputs": {"key": "abc"}}}}},
            "config.engines.c.secret_inputs.key: must be ${NAME}",
        ),
        ({"config": {"listen": "0.0.0.0:1"}}, "additional properties 'listen' not allowed"),
        ({"config": {"limits": {"max_upload_bytes": 0}}}, "max_upload_bytes"),
        ({"config": {"engines": {"a": {"fallbacks": []}}}}, "missing property 'type'"),
        ({"tls": {"enabled": True}}, "tls.existingSecret: name a secret"),
        ({"tls": {"existingSecret": "tls"}}, "tls.enabled: is false"),
        ({"tls": {"enabled": True, "certManager": {"enabled": True}}}, "name the issuer"),
        (
            {"tls": {"enabled": True, "existingSecret": "a", "certManager": {"enabled": True}}},
            "set either existingSecret or certManager.enabled",
        ),
        ({"prepare": {"build": True}}, "needs persistence.cache.enabled"),
        ({"prepare": {"pullModels": True}}, "needs persistence.models.enabled"),
        (
            {
                "prepare": {"pullModels": True},
                "persistence": {"models": {"enabled": True, "readOnly": True}},
            },
            "persistence.models.readOnly allows no downloads",
        ),
        ({"gpu": {"count": 1, "dra": {"enabled": True}}}, "set either count or dra.enabled"),
        ({"gpu": {"resource": "gpu"}}, "does not match pattern"),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "nvidia.com/gpu is set by gpu.resource"),
        (
            {"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
            "every metric would be counted twice",
        ),
        ({"gatewayApi": {"grpcRoute": {"enabled": True}}}, "name the Gateway"),
        (
            {"http": {"enabled": True}, "gatewayApi": {"httpRoute": {"enabled": True}}},
            "gatewayApi.httpRoute.parentRefs: name the Gateway",
        ),
        ({"gatewayApi": {"backendTls": {"enabled": True}}}, "set tls.enabled, too"),
        (
            {"gatewayApi": {"httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}},
            "gatewayApi.httpRoute.enabled: there is no HTTP port; set http.enabled, too",
        ),
        (
            {"config": {"http_origins": ["https://a.example.com"]}},
            "config.http_origins: there is no HTTP port",
        ),
        ({"httpIngress": {"enabled": True, "hosts": ["a"]}}, "set http.enabled, too"),
        ({"config": {"http": "0.0.0.0:80"}}, "additional properties 'http' not allowed"),
        ({"ingress": {"enabled": True}}, "ingress.hosts: name at least one host"),
        (
            {"http": {"enabled": True}, "httpIngress": {"enabled": True}},
            "httpIngress.hosts: name at least one host",
        ),
        ({"image": {"digest": "sha256:abc"}}, "image/digest"),
        ({"environment": {"A": {"value": "1", "key": "b"}}}, "environment/A"),
        ({"replicas": 3}, "additional properties 'replicas' not allowed"),
        ({"persistence": {"data": {"size": "much"}}}, "persistence/data/size"),
    ],
)
def test_values_that_cannot_work_are_rejected(
    helm: Helm, values: Mapping[str, Any], words: str
) -> None:
    """With a message that says what to change."""
    with pytest.raises(RejectedValuesError) as rejected:
        helm.render(merge(OPEN, values))
    assert words in str(rejected.value)


def test_long_jobs_may_be_requeued(helm: Helm) -> None:
    """Where somebody says so, an engine may take longer than the drain."""
    engines = {"slow": {"type": "sketch", "timeout_seconds": 900}}
    helm.render(merge(OPEN, {"config": {"engines": engines}, "drain": {"requeueLongJobs": True}}))


def test_variables_may_stand_for_numbers(helm: Helm) -> None:
    """The schema of the configuration does not reject what the server accepts."""
    config = {"threads": "${THREADS:-4}", "log": {"level": "${LEVEL:-info}"}}
    release = helm.render(merge(OPEN, {"config": config}))
    assert "${THREADS:-4}" in release.configuration


@pytest.mark.parametrize(
    "resource",
    ["nvidia.com/gpu", "nvidia.com/gpu.shared", "nvidia.com/mig-4g.71gb", "amd.com/gpu"],
)
def test_the_device_is_a_limit_of_the_container(helm: Helm, resource: str) -> None:
    """One resource, whole GPUs and slices alike; the requests follow from it."""
    release = helm.render(merge(OPEN, {"gpu": {"count": 2, "resource": resource}}))
    assert release.container["resources"]["limits"] == {"memory": "8Gi", resource: "2"}


def test_the_pod_is_as_restricted_as_it_can_be(helm: Helm) -> None:
    """What the Pod Security Standard `restricted` asks for, in the server's pod and in that of the test."""
    release = helm.render(merge(EVERYTHING, {"tests": {"enabled": True}}))
    pods: list[Mapping[str, Any]] = [release.pod, release.find("Pod")["spec"]]
    pods += [
        item["spec"]["template"]["spec"]
        for item in helm.render(POOLED).objects
        if item["kind"] in {"Deployment", "Job"}
    ]
    assert len(pods) == 6
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            context = container["securityContext"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert context["readOnlyRootFilesystem"]
            assert not context["allowPrivilegeEscalation"]


def test_the_pod_of_the_test_gets_no_calls(helm: Helm) -> None:
    """Services select the server's pod alone."""
    release = helm.render(OPEN)
    labels = release.find("Pod")["metadata"]["labels"]
    for name in ("media-atelier", "-pods"):
        selector = release.find("Service", name)["spec"]["selector"]
        assert not selector.items() <= labels.items()
        own = release.find("StatefulSet")["spec"]["template"]["metadata"]["labels"]
        assert selector.items() <= own.items()


def test_no_peers_are_nobody(helm: Helm) -> None:
    """An empty list closes a port; Kubernetes would read a rule without peers as everybody."""
    policy: Mapping[str, Any] = {"callers": [], "metricsReaders": [], "healthReaders": []}
    release = helm.render(merge(OPEN, {"networkPolicy": policy}))
    assert not release.find("NetworkPolicy")["spec"]["ingress"]


def test_a_change_of_the_configuration_restarts_the_pod(helm: Helm) -> None:
    """By a checksum in its annotations."""
    releases = [helm.render(OPEN), helm.render(merge(OPEN, {"config": {"threads": 2}}))]
    first, second = (
        release.find("StatefulSet")["spec"]["template"]["metadata"]["annotations"]
        for release in releases
    )
    assert first["checksum/config"] != second["checksum/config"]
