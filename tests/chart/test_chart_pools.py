"""Pools of workers behind gateways: what is rendered for each, and what is rejected."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.chart.charts import CHART, OPEN, Helm, RejectedValuesError, merge, needs_helm

pytestmark = needs_helm

POOLED = merge(
    OPEN,
    {
        "config": {
            "store": {"type": "postgres", "dsn": "${DSN}"},
            "artifacts": {"type": "s3", "bucket": "media"},
            "engines": {
                "sketch": {"type": "sketch", "timeout_seconds": 30},
                "fal": {"type": "fal", "api_key": "${FAL_KEY}"},
            },
        },
        "environmentFromSecrets": ["services"],
        "persistence": {
            "models": {"enabled": True, "accessModes": ["ReadWriteMany"]},
            "cache": {"enabled": True, "accessModes": ["ReadWriteMany"]},
        },
        "prepare": {"pullModels": True, "build": True, "job": {"enabled": True}},
        "pools": {
            "local": {"engines": ["sketch"], "gpu": {"count": 1}},
            "remote": {
                "engines": ["fal"],
                "prepare": {"pullModels": False, "build": False},
                "persistence": {"cache": {"enabled": False}},
            },
        },
        "podDisruptionBudget": {"enabled": True},
        "monitoring": {"podMonitor": {"enabled": True}},
    },
)
SCALED = merge(
    POOLED,
    {
        "allowInsecure": False,
        "tls": {"enabled": True, "existingSecret": "tls", "clientCertificates": "required"},
        "gateway": {"autoscaling": {"enabled": True}},
        "autoscaling": {
            "type": "keda",
            "keda": {"prometheusAddress": "http://prometheus", "clientCertificateSecret": "keda"},
        },
        "pools": {
            "remote": {"autoscaling": {"keda": {"trigger": "prometheus"}}},
            "more": {"autoscaling": {"type": "hpa"}, "gpu": {"dra": {"enabled": True}}},
        },
        "http": {"enabled": True},
        "monitoring": {"podMonitor": {"enabled": False}, "serviceMonitor": {"enabled": True}},
    },
)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"config": {"store": {"type": "sqlite"}}}, "set config.store.type: postgres"),
        ({"config": {"artifacts": {"type": "directory"}}}, "set config.artifacts.type: s3"),
        ({"pools": {"gateway": {}}}, "gateway"),
        ({"pools": {"Big": {}}}, "does not match pattern"),
        ({"pools": {"a": {"engine": "sketch"}}}, "additional properties 'engine' not allowed"),
        (
            {"pools": {"local": {"engines": ["skech"]}}},
            'pools.local.engines: "skech" is not in config.engines; there are fal, sketch',
        ),
        (
            {"config": {"engines": {"idle": {"type": "sketch"}}}},
            "config.engines.idle: no pool runs it",
        ),
        ({"fullnameOverride": "a" * 40}, "set a shorter fullnameOverride, or rename the pool"),
        (
            {"pools": {"remote": {"persistence": {"models": {"enabled": False}}}}},
            "weights are in one place for all pools",
        ),
        (
            {"pools": {"local": {"autoscaling": {"type": "hpa", "minReplicas": 9}}}},
            "pools.local.autoscaling.maxReplicas: 4 is less than minReplicas = 9",
        ),
        (
            {"gateway": {"autoscaling": {"enabled": True, "minReplicas": 99}}},
            "gateway.autoscaling.maxReplicas: 10 is less than minReplicas = 99",
        ),
        ({"autoscaling": {"minReplicas": 0}}, "autoscaling/minReplicas"),
        (
            {"pools": {"local": {"autoscaling": {"type": "keda"}, "replicas": 2}}},
            "pools.local.replicas: the autoscaler sets the number",
        ),
        (
            {"autoscaling": {"type": "keda", "keda": {"trigger": "prometheus"}}},
            "keda.prometheusAddress: name the Prometheus",
        ),
        (
            {
                "tls": {"enabled": True, "existingSecret": "a", "clientCertificates": "required"},
                "autoscaling": {"type": "keda"},
            },
            "tls.clientCertificates asks KEDA for a certificate, too",
        ),
        ({"rollout": {"maxUnavailable": 0}}, "so nothing could ever change"),
        (
            {"pools": {"local": {"persistence": {"cache": {"accessModes": ["ReadWriteOnce"]}}}}},
            "pools.local.persistence.cache.accessModes: several pods use the volume",
        ),
        (
            {"persistence": {"models": {"accessModes": ["ReadWriteOnce"]}}},
            "persistence.models.accessModes: several pods use the volume",
        ),
        (
            {"pools": {"local": {"gpu": {"dra": {"enabled": True}}}}},
            "pools.local.gpu: set either count or dra.enabled",
        ),
        ({"pools": {"remote": {"prepare": {"build": True}}}}, "pools.remote.prepare.build: needs"),
        ({"config": {"role": "gateway"}}, "additional properties 'role' not allowed"),
    ],
)
def test_pools_that_cannot_work_are_rejected(
    helm: Helm, values: Mapping[str, Any], words: str
) -> None:
    """With a message that says what to change."""
    with pytest.raises(RejectedValuesError) as rejected:
        helm.render(merge(POOLED, values))
    assert words in str(rejected.value)


def test_each_value_of_a_pool_stands_in_for_that_of_all(helm: Helm) -> None:
    """In its own pods, and in no others'."""
    own: Mapping[str, Any] = {
        "image": {"tag": "other"},
        "environment": {"A": {"value": "1"}},
        "environmentFromSecrets": ["other"],
        "persistence": {"models": {"existingClaim": "other"}},
        "sharedMemory": {"enabled": True},
        "scratch": {"size": "7Gi"},
        "prepare": {"job": {"waitSeconds": 7}},
        "gpu": {"resource": "nvidia.com/gpu.shared"},
        "resources": {"limits": {"memory": "9Gi"}},
        "runtimeClassName": "other",
        "priorityClassName": "other",
        "nodeSelector": {"kind": "other"},
        "tolerations": [{"key": "other"}],
        "affinity": {"podAffinity": {}},
        "topologySpreadConstraints": [{"topologyKey": "zone"}],
        "podLabels": {"kind": "other"},
        "podAnnotations": {"kind": "other"},
        "extraVolumes": [{"name": "other"}],
        "extraVolumeMounts": [{"name": "other"}],
        "probes": {"readiness": {"periodSeconds": 7}},
        "podDisruptionBudget": {"maxUnavailable": 7},
        "autoscaling": {"type": "hpa"},
        "rollout": {"maxSurge": 7},
        "engines": ["sketch", "fal"],
        "replicas": 7,
    }
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert own.keys() == schema["$defs"]["pools"]["additionalProperties"]["properties"].keys()
    before = helm.render(POOLED).objects
    for key, value in own.items():
        after = helm.render(merge(POOLED, {"pools": {"local": {key: value}}})).objects
        changed = [item for item in after if item not in before]
        assert changed, key
        for item in changed:
            assert item["metadata"]["labels"].get("atelier.dev/pool") == "local", (key, item)


def test_only_what_answers_is_called(helm: Helm) -> None:
    """Services lead to gateways; workers open no port but those for probes and metrics, and get no call."""
    release = helm.render(SCALED)
    for name in ("media-atelier", "-pods", "-scaler"):
        selector = release.find("Service", name)["spec"]["selector"]
        assert selector["app.kubernetes.io/component"] == "gateway"
    workers = release.find("Deployment", "-local")["spec"]["template"]["spec"]["containers"][0]
    assert {port["containerPort"] for port in workers["ports"]} == {50052, 9464}
    gateway = release.find("Deployment", "-gateway")["spec"]["template"]["spec"]["containers"][0]
    opened = {port["containerPort"] for port in gateway["ports"]}
    assert opened == {50051, 8080, 50052, 50053, 9464}
    assert "nvidia.com/gpu" not in gateway["resources"]["limits"]
    admitted = release.find("NetworkPolicy", "-workers")["spec"]["ingress"]
    assert [port["port"] for rule in admitted for port in rule["ports"]] == [50052, 9464]


def test_an_autoscaler_sets_the_number_alone(helm: Helm) -> None:
    """Where there is one, the Deployment has no number, which each upgrade would set again."""
    release = helm.render(SCALED)
    assert "replicas" not in release.find("Deployment", "-local")["spec"]
    assert "replicas" not in release.find("Deployment", "-gateway")["spec"]
    stopped = helm.render(merge(SCALED, {"running": False}))
    assert not stopped.kinds & {"ScaledObject", "HorizontalPodAutoscaler", "Job"}
    assert stopped.find("Deployment", "-local")["spec"]["replicas"] == 0
    plain = helm.render(merge(POOLED, {"pools": {"local": {"replicas": 0}}}))
    assert plain.find("Deployment", "-local")["spec"]["replicas"] == 0
    assert plain.find("Deployment", "-remote")["spec"]["replicas"] == 1
    assert plain.find("Deployment", "-gateway")["spec"]["replicas"] == 2


def test_what_is_prepared_has_a_name_of_its_own(helm: Helm) -> None:
    """A Job cannot be changed: another image or configuration makes another Job, anything else the same."""
    names = [
        helm.render(merge(POOLED, values)).find("Job")["metadata"]["name"]
        for values in (
            {},
            {"podLabels": {"a": "b"}},
            {"image": {"tag": "other"}},
            {"config": {"threads": 2}},
        )
    ]
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert max(map(len, names)) <= 63
