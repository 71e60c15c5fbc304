"""Metrics of the devices of the machine: GPUs by NVIDIA's driver, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT, RunningServer, StartServer
from tests.server.test_metrics import fetch, key, samples

LIBRARY = ROOT / "tests" / "nvml" / "nvml.c"


@pytest.mark.skipif(
    shutil.which("cc") is None, reason="no C compiler builds the stand-in for the driver"
)
def test_gpus_are_measured_as_the_driver_tells(start_server: StartServer, tmp_path: Path) -> None:
    """In bytes, joules and shares, whatever the driver counts in; what a slice does not tell is absent."""
    library = tmp_path / "lib" / "libnvidia-ml.so.1"
    library.parent.mkdir()
    command: list[str | Path] = ["cc", "-shared", "-fPIC", "-o", library, LIBRARY]
    subprocess.run(command, check=True)
    server = start_server(environment={"LD_LIBRARY_PATH": str(library.parent)})
    found = {sample: value for sample, value in samples(server).items() if "_gpu_" in sample[0]}
    assert found == {
        key("atelier_gpu_info", gpu="0", uuid="GPU-1", product="Stand-in"): 1,
        key("atelier_gpu_info", gpu="1", uuid="MIG-2", product="Stand-in"): 1,
        key("atelier_gpu_memory_used_bytes", gpu="0"): 1e9,
        key("atelier_gpu_memory_used_bytes", gpu="1"): 1e9,
        key("atelier_gpu_memory_total_bytes", gpu="0"): 8e10,
        key("atelier_gpu_memory_total_bytes", gpu="1"): 1e10,
        key("atelier_gpu_utilization_ratio", gpu="0"): 0.75,
        key("atelier_gpu_power_watts", gpu="0"): 250.5,
        key("atelier_gpu_energy_joules_total", gpu="0"): 123456.789,
        key("atelier_gpu_temperature_celsius", gpu="0"): 61,
    }


def test_without_a_driver_there_are_no_gpus(server: RunningServer) -> None:
    """And everything else is measured as ever."""
    _, text = fetch(server, "/metrics")
    assert ("atelier_gpu_" in text) == bool(shutil.which("nvidia-smi"))
    assert "# TYPE atelier_model_cache_uses_total counter" in text
