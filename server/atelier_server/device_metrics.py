"""Metrics of the devices in this machine, read when they are asked for: loaded models, and what NVIDIA's driver counts.

GPUs need the extra `nvml` and NVIDIA's driver; without either of them their metrics are absent.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from atelier_engines.model_use import MODEL_USE

Reading = Callable[[Any, Any], float]
"""One value, by the module pynvml and the handle of a GPU; raises NVMLError where the GPU does not tell it."""


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    text: str
    read: Reading
    family: type[CounterMetricFamily | GaugeMetricFamily] = GaugeMetricFamily


_GPU_METRICS: Sequence[_Metric] = (
    _Metric(
        "atelier_gpu_memory_used_bytes",
        "Memory of the GPU that is in use, by whichever program.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used,
    ),
    _Metric(
        "atelier_gpu_memory_total_bytes",
        "Memory of the GPU.",
        lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).total,
    ),
    _Metric(
        "atelier_gpu_utilization_ratio",
        "Share of the last period, at most a second, in which the GPU ran something.",
        lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    ),
    _Metric(
        "atelier_gpu_power_watts",
        "What the GPU draws.",
        lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3,
    ),
    _Metric(
        "atelier_gpu_energy_joules_total",
        "What the GPU has drawn since its driver was loaded.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1e3,
        CounterMetricFamily,
    ),
    _Metric(
        "atelier_gpu_temperature_celsius",
        "Temperature of the GPU.",
        lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
    ),
)
"""Units as in NVIDIA's reference of NVML: bytes, percent, milliwatts, millijoules, degrees."""


class DeviceCollector(Collector):
    """What Prometheus' library asks at each scrape."""

    def __init__(self) -> None:
        """Look for no driver yet."""
        self._lock = threading.Lock()
        self._gpus: _Gpus | None = None

    def describe(self) -> Iterator[Metric]:
        """Nothing: which metrics there are depends on the machine."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The metrics of now."""
        yield from _collect_models()
        with self._lock:
            if self._gpus is None:
                self._gpus = _Gpus()
            yield from self._gpus.collect()


def _collect_models() -> Iterator[Metric]:
    uses = CounterMetricFamily(
        "atelier_model_cache_uses",
        "Uses of a component of a model: hit (it was there), loaded (from its files), restored (from main memory).",
        labels=["device", "outcome"],
    )
    evictions = CounterMetricFamily(
        "atelier_model_cache_evictions",
        "Components of models that made room for others.",
        labels=["device"],
    )
    size = GaugeMetricFamily(
        "atelier_model_cache_bytes", "Size of the models on the device.", labels=["device"]
    )
    for use in MODEL_USE.read():
        for outcome in ("hit", "loaded", "restored"):
            uses.add_metric([use.device, outcome], use.counts.get(outcome, 0))
        evictions.add_metric([use.device], use.counts.get("evicted", 0))
        size.add_metric([use.device], use.nbytes)
    yield from (uses, evictions, size)


class _Gpus:
    """The GPUs that NVIDIA's driver shows; none without the extra or the driver."""

    def __init__(self) -> None:
        self._nvml: ModuleType | None = None
        self._handles: Mapping[str, Any] = {}
        with suppress(ImportError):
            import pynvml  # noqa: PLC0415 (an extra)

            with suppress(pynvml.NVMLError):
                pynvml.nvmlInit()
                numbers = range(pynvml.nvmlDeviceGetCount())
                self._handles = {
                    str(number): pynvml.nvmlDeviceGetHandleByIndex(number) for number in numbers
                }
                self._nvml = pynvml

    def collect(self) -> Iterator[Metric]:
        """What each GPU tells; what it does not tell is absent."""
        if self._nvml is None:
            return
        info = GaugeMetricFamily(
            "atelier_gpu_info",
            "1; the labels say which GPU it is.",
            labels=["gpu", "uuid", "product"],
        )
        for number, handle in self._handles.items():
            with suppress(self._nvml.NVMLError):
                names = [
                    self._nvml.nvmlDeviceGetUUID(handle),
                    self._nvml.nvmlDeviceGetName(handle),
                ]
                info.add_metric([number, *names], 1)
        yield info
        for metric in _GPU_METRICS:
            family = metric.family(metric.name, metric.text, labels=["gpu"])
            for number, handle in self._handles.items():
                with suppress(self._nvml.NVMLError):
                    family.add_metric([number], metric.read(self._nvml, handle))
            yield family


@cache
def register_devices() -> None:
    """Have them in the metrics of this process from now on."""
    REGISTRY.register(DeviceCollector())
