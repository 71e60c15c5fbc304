"""Installs the chart into a real API server, and prints what it does.

python try_cluster.py BINARIES CRDS

It runs in the environment of Helm's library, by `make chart-test-cluster`. There is no kubelet: nothing runs, but
everything is admitted and scheduled.
"""

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from ssl import CERT_NONE, create_default_context
from typing import Any

import helm_python
import yaml

CHART = Path(__file__).parents[3] / "helm" / "atelier"
TOKEN = "a-token-for-one-run"  # noqa: S105 - of an API server that lives as long as this
NAMESPACE = "studio"
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
Values = Mapping[str, Any]


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Cluster:
    """etcd, an API server and a scheduler, with their files in one folder."""

    def __init__(self, binaries: Path, folder: Path) -> None:
        """Know where everything is; nothing runs yet."""
        self._binaries, self._folder = binaries, folder
        self._port = free_port()
        self.kubeconfig = folder / "kubeconfig"
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        client, peer = free_port(), free_port()
        self._run(
            "etcd", "--data-dir", self._folder / "etcd", "--unsafe-no-fsync",
            "--listen-client-urls", f"http://127.0.0.1:{client}",
            "--advertise-client-urls", f"http://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}",
        )  # fmt: skip
        self._write_files()
        self._run(
            "kube-apiserver", "--etcd-servers", f"http://127.0.0.1:{client}",
            "--secure-port", str(self._port), "--bind-address", "127.0.0.1",
            "--cert-dir", self._folder / "certificates", "--endpoint-reconciler-type", "none",
            "--service-account-issuer", "https://kubernetes.default.svc",
            "--service-account-key-file", self._folder / "accounts.key",
            "--service-account-signing-key-file", self._folder / "accounts.key",
            "--token-auth-file", self._folder / "tokens.csv", "--authorization-mode", "RBAC",
            "--service-cluster-ip-range", "10.0.0.0/24",
            "--disable-admission-plugins", "ServiceAccount",
        )  # fmt: skip
        self._wait_ready()
        self._run(
            "kube-scheduler", "--leader-elect=false", "--secure-port", "0",
            "--kubeconfig", self.kubeconfig, "--authentication-kubeconfig", self.kubeconfig,
            "--authorization-kubeconfig", self.kubeconfig,
        )  # fmt: skip

    def stop(self) -> None:
        """End everything, the last one first."""
        for process in reversed(self._processes):
            process.terminate()
            process.wait()

    def kubectl(self, *words: str, given: object = None, fails: bool = False) -> str:
        """What kubectl prints; on standard error if it is to fail."""
        ended = subprocess.run(
            [Path(sys.executable).with_name("kubectl"), f"--kubeconfig={self.kubeconfig}", *words],
            input=None if given is None else json.dumps(given),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if fails != (ended.returncode != 0):
            sys.exit(f"kubectl {' '.join(words)}: {ended.stdout}{ended.stderr}")
        return (ended.stderr if fails else ended.stdout).strip()

    def _run(self, name: str, *options: str | Path) -> None:
        with (self._folder / f"{name}.log").open("wb") as log:
            command = [self._binaries / name, *options]
            self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def _write_files(self) -> None:
        key: list[str | Path] = ["openssl", "genrsa", "-out", self._folder / "accounts.key", "2048"]
        subprocess.run(key, check=True, capture_output=True)
        (self._folder / "tokens.csv").write_text(f"{TOKEN},admin,admin,system:masters\n")
        server = {"server": f"https://127.0.0.1:{self._port}", "insecure-skip-tls-verify": True}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "one",
            "clusters": [{"name": "one", "cluster": server}],
            "users": [{"name": "one", "user": {"token": TOKEN}}],
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "one"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(config))

    def _wait_ready(self) -> None:
        trusting = create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, CERT_NONE
        request = urllib.request.Request(f"https://127.0.0.1:{self._port}/readyz")
        request.add_header("Authorization", f"Bearer {TOKEN}")
        end = time.monotonic() + 300
        while time.monotonic() < end:
            with contextlib.suppress(urllib.error.URLError, OSError):
                urllib.request.urlopen(request, context=trusting, timeout=5).close()
                return
            time.sleep(0.2)
        sys.exit((self._folder / "kube-apiserver.log").read_text()[-3000:])


@contextlib.contextmanager
def running(binaries: Path) -> Iterator[Cluster]:
    """A cluster inside the context."""
    with tempfile.TemporaryDirectory() as folder:
        cluster = Cluster(binaries, Path(folder))
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()


def say(text: str) -> None:
    """One line of the report."""
    print(f"- {text}", flush=True)


def read_example(name: str) -> Values:
    """Values of an example."""
    values: Values = yaml.safe_load((CHART / "examples" / f"{name}.yaml").read_text())
    return values


def make_pod(
    cluster: Cluster, name: str, workload: str = "statefulset/media-atelier", **changes: object
) -> dict[str, Any]:
    """A pod as the workload of the release would make it."""
    found = json.loads(cluster.kubectl("get", workload, "-o", "json", "-n", NAMESPACE))
    template = found["spec"]["template"]
    metadata = {"name": name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {**template["spec"], **changes},
    }


def try_releases(cluster: Cluster) -> None:
    """Install, upgrade, roll back and uninstall; reject values that cannot be."""
    helm = helm_python.Config(kubeconfig_path=cluster.kubeconfig, namespace=NAMESPACE)
    values = read_example("one-gpu")
    helm.install(CHART, "media", values)
    kinds = "statefulset,service,configmap,pvc,networkpolicy,serviceaccount,servicemonitor,prometheusrule,certificate"
    made = cluster.kubectl("get", kinds, "-o", "name", "-n", NAMESPACE).split()
    say(
        f"install of one-gpu: {len(made)} objects, among them {', '.join(sorted({one.split('/')[0] for one in made}))}"
    )
    helm.upgrade(CHART, "media", {**values, "drain": {"seconds": 600}})
    say(f"upgrade with drain.seconds=600: grace period {find_grace(cluster)} s")
    helm.rollback("media", version=1)
    say(f"rollback to revision 1: grace period {find_grace(cluster)} s")
    for name, wrong in (
        ("replicas", {"replicas": 3}),
        ("a short grace period", {**values, "terminationGracePeriodSeconds": 60}),
        ("no TLS", {"config": {}}),
    ):
        try:
            helm.upgrade(CHART, "media", wrong)
        except helm_python.HelmError as error:
            say(f"upgrade with {name} is rejected: {str(error).splitlines()[-1].strip()[-230:]}")
        else:
            sys.exit(f"{name} was accepted")
    try_admission(cluster)
    helm.uninstall("media")
    left = cluster.kubectl("get", "pvc", "-o", "name", "-n", NAMESPACE).split()
    say(f"uninstall keeps {', '.join(left)}")
    delete_claims(cluster)
    helm.install(CHART, "media", read_example("remote-only"))
    route = cluster.kubectl(
        "get", "grpcroute,httproute,backendtlspolicy,podmonitor", "-o", "name", "-n", NAMESPACE
    )
    say(f"install of remote-only: {', '.join(route.split())}")
    helm.uninstall("media")
    delete_claims(cluster)
    try_pools(cluster, helm)
    try_scheduling(cluster, helm)


def try_pools(cluster: Cluster, helm: Any) -> None:  # noqa: ANN401 - a handle of Helm's library
    """Install gateways and pools; each kind of pods is admitted, and those of a pool go where its devices are."""
    for kind, name, more in (
        ("PriorityClass", "inference", {"apiVersion": "scheduling.k8s.io/v1", "value": 1000}),
        ("RuntimeClass", "nvidia", {"apiVersion": "node.k8s.io/v1", "handler": "nvidia"}),
    ):
        cluster.kubectl(
            "create", "-f", "-", given={"kind": kind, "metadata": {"name": name}, **more}
        )
    values = read_example("cluster-autoscaled")
    helm.install(CHART, "media", values)
    kinds = "deployment,job,horizontalpodautoscaler,scaledobject,triggerauthentication,pdb"
    made = cluster.kubectl("get", kinds, "-o", "name", "-n", NAMESPACE).split()
    say(f"install of cluster-autoscaled: {', '.join(made)}")
    workloads = [one for one in made if one.startswith(("deployment.apps", "job.batch"))]
    for number, workload in enumerate(workloads):
        pod = make_pod(cluster, f"pod{number}", workload)
        pod["spec"].setdefault("restartPolicy", "Never")
        cluster.kubectl("create", "--dry-run=server", "-f", "-", given=pod)
    say(f"Pod Security `restricted` admits the pods of all {len(workloads)}")
    product = values["pools"]["xl"]["nodeSelector"]
    add_node(cluster, "plain-gpu", {"nvidia.com/gpu": "8"})
    add_node(cluster, "wanted-gpu", {"nvidia.com/gpu": "1"}, product)
    for name in ("one", "two"):
        pod = make_pod(cluster, name, "deployment/media-atelier-xl")
        volumes = [each for each in pod["spec"]["volumes"] if "persistentVolumeClaim" not in each]
        claims = [each for each in pod["spec"]["volumes"] if "persistentVolumeClaim" in each]
        pod["spec"]["volumes"] = [
            *volumes,
            *({"name": each["name"], "emptyDir": {}} for each in claims),
        ]
        cluster.kubectl("create", "-f", "-", given=pod)
        wait_scheduled(cluster, name)
        node, reason = find_place(cluster, name)
        say(f"worker {name} of the pool xl: {f'on the node {node}' if node else reason[:100]}")
    helm.upgrade(CHART, "media", {**values, "image": {"tag": "0.2.0-gpu"}})
    jobs = cluster.kubectl("get", "job", "-o", "name", "-n", NAMESPACE).split()
    say(f"upgrade with another image: Jobs {', '.join(jobs)}")
    helm.rollback("media", version=1)
    helm.uninstall("media")
    for name in ("one", "two"):
        cluster.kubectl("delete", "pod", name, "--force", "-n", NAMESPACE)
    for name in ("plain-gpu", "wanted-gpu"):
        cluster.kubectl("delete", "node", name)
    delete_claims(cluster)


def delete_claims(cluster: Cluster) -> None:
    """Delete what an uninstall has kept; no controller is here that would take off what protects claims in use."""
    for claim in cluster.kubectl("get", "pvc", "-o", "name", "-n", NAMESPACE).split():
        cluster.kubectl("delete", claim, "--wait=false", "-n", NAMESPACE)
        unprotected = json.dumps({"metadata": {"finalizers": None}})
        cluster.kubectl("patch", claim, "--type=merge", "--patch", unprotected, "-n", NAMESPACE)


def find_grace(cluster: Cluster) -> str:
    """The grace period in the StatefulSet."""
    path = "jsonpath={.spec.template.spec.terminationGracePeriodSeconds}"
    return cluster.kubectl("get", "statefulset", "media-atelier", "-n", NAMESPACE, "-o", path)


def try_admission(cluster: Cluster) -> None:
    """Pod Security admits the pods as they are, and none that asks for more."""
    cluster.kubectl("create", "--dry-run=server", "-f", "-", given=make_pod(cluster, "as-it-is"))
    say("Pod Security `restricted` admits the pod of the release")
    worse = make_pod(cluster, "worse", hostNetwork=True)
    refused = cluster.kubectl("create", "--dry-run=server", "-f", "-", given=worse, fails=True)
    say(
        f"and not the same pod with the network of its host: {refused.partition('violates')[2][:90].strip()}"
    )


def try_scheduling(cluster: Cluster, helm: Any) -> None:  # noqa: ANN401 - a handle of Helm's library
    """Of two pods that want a slice of a GPU, one finds the node that offers one."""
    gpu = {"count": 1, "resource": "nvidia.com/mig-1g.10gb"}
    none = {"enabled": False}
    storage = {"data": none, "models": none, "cache": none}
    engines = {"engines": {"sketch": {"type": "sketch"}}}
    helm.install(
        CHART,
        "media",
        {"allowInsecure": True, "gpu": gpu, "persistence": storage, "config": engines},
    )
    add_node(cluster, "plain", {})
    add_node(cluster, "sliced", {"nvidia.com/mig-1g.10gb": "1"})
    for name in ("first", "second"):
        cluster.kubectl("create", "-f", "-", given=make_pod(cluster, name))
        wait_scheduled(cluster, name)
    for name in ("first", "second"):
        node, reason = find_place(cluster, name)
        say(f"the {name} pod with 1 {gpu['resource']}: {f'on the node {node}' if node else reason}")
    helm.uninstall("media")


def add_node(
    cluster: Cluster, name: str, offers: Mapping[str, str], labels: Mapping[str, str] | None = None
) -> None:
    """A node that is ready and offers these devices."""
    metadata = {"name": name, "labels": dict(labels or {})}
    node = {"apiVersion": "v1", "kind": "Node", "metadata": metadata}
    cluster.kubectl("create", "-f", "-", given=node)
    capacity = {"cpu": "16", "memory": "64Gi", "pods": "10", "ephemeral-storage": "100Gi", **offers}
    ready = [{"type": "Ready", "status": "True", "reason": "Test", "message": ""}]
    status = {"capacity": capacity, "allocatable": capacity, "conditions": ready}
    cluster.kubectl(
        "patch", "node", name, "--subresource=status", "--patch", json.dumps({"status": status})
    )
    cluster.kubectl("taint", "node", name, "node.kubernetes.io/not-ready:NoSchedule-")


def find_place(cluster: Cluster, name: str) -> tuple[str, str]:
    """The pod's node, and why it has none; both empty while the scheduler has not looked at it."""
    pod = json.loads(cluster.kubectl("get", "pod", name, "-o", "json", "-n", NAMESPACE))
    conditions: Sequence[Mapping[str, str]] = pod["status"].get("conditions", [])
    reasons = [each.get("message", "") for each in conditions if each["type"] == "PodScheduled"]
    return pod["spec"].get("nodeName", ""), (reasons or [""])[0]


def wait_scheduled(cluster: Cluster, name: str) -> None:
    """Wait until the scheduler has looked at the pod."""
    end = time.monotonic() + 120
    while not any(find_place(cluster, name)):
        if time.monotonic() > end:
            sys.exit(f"nobody schedules {name}")
        time.sleep(0.2)


def main(binaries: Path, crds: Path) -> None:
    """Try everything, and print what it did."""
    with running(binaries) as cluster:
        say(json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]["gitVersion"])
        for path in sorted(crds.glob("*.yaml")):
            cluster.kubectl("apply", "--server-side", "-f", str(path))
        space = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": NAMESPACE, "labels": RESTRICTED},
        }
        cluster.kubectl("create", "-f", "-", given=space)
        try_releases(cluster)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
