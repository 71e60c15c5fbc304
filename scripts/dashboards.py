"""What the dashboards of the chart show.

A dashboard is rows of panels; a panel is a title, a unit and its queries, each with a legend.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SELECTED = 'namespace=~"$namespace",job=~"$job"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One chart."""

    title: str
    unit: str
    """Unit as Grafana names it: s, short, bytes, percentunit."""
    queries: Mapping[str, str]
    """Queries of Prometheus by their legends; SELECTED stands where a selector has $."""
    text: str = ""
    """What it says, and what to do about it."""


@dataclass(frozen=True, slots=True)
class Dashboard:
    """Rows of panels."""

    name: str
    title: str
    rows: Sequence[Sequence[Panel]]


def rate(metric: str, labels: str, extra: str = "") -> str:
    """Growth per second of a counter, by labels."""
    selector = f"{SELECTED},{extra}" if extra else SELECTED
    return f"sum by ({labels}) (rate({metric}{{{selector}}}[$__rate_interval]))"


def quantile(share: float, metric: str, labels: str) -> str:
    """A quantile of a histogram, by labels."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'{labels}, le')})"


def latest(metric: str, labels: str, how: str = "sum") -> str:
    """A gauge, by labels."""
    return f"{how} by ({labels}) ({metric}{{{SELECTED}}})"


SERVICE = Dashboard(
    "service",
    "Atelier: service",
    [
        [
            Panel(
                "Generations that end",
                "reqps",
                {"{{outcome}}": rate("atelier_generations_total", "outcome")},
            ),
            Panel(
                "Share that fails",
                "percentunit",
                {
                    "failed": rate(
                        "atelier_generations_total",
                        "job",
                        'outcome=~"failed|deadline_exceeded"',
                    )
                    + " / "
                    + rate("atelier_generations_total", "job", 'outcome!="cancelled"')
                },
                "The alerts begin at 6 % over six hours and 14.4 % over one.",
            ),
            Panel(
                "Why they fail",
                "reqps",
                {"{{engine}} {{reason}}": rate("atelier_failures_total", "engine, reason")},
                "docs/errors.md explains the reasons.",
            ),
        ],
        [
            Panel(
                "Time from acceptance to end",
                "s",
                {
                    "p50": quantile(0.5, "atelier_generation_seconds", "job"),
                    "p95": quantile(0.95, "atelier_generation_seconds", "job"),
                },
            ),
            Panel(
                "Time in the queue (p95)",
                "s",
                {"{{engine}}": quantile(0.95, "atelier_queue_seconds", "engine")},
                "Much of the time above: more capacity helps. Little: the engine itself is slow.",
            ),
            Panel(
                "Time in stages (p95)",
                "s",
                {"{{engine}} {{stage}}": quantile(0.95, "atelier_stage_seconds", "engine, stage")},
            ),
        ],
        [
            Panel(
                "Calls",
                "reqps",
                {"{{grpc_method}}": rate("grpc_server_started_total", "grpc_method")},
            ),
            Panel(
                "Time of calls (p95)",
                "s",
                {
                    "{{grpc_method}}": quantile(
                        0.95, "grpc_server_call_duration_seconds", "grpc_method"
                    )
                },
                "Calls that wait for a generation or follow one take as long as it does.",
            ),
            Panel(
                "Calls that end with an error",
                "reqps",
                {
                    "{{grpc_method}} {{grpc_code}}": rate(
                        "grpc_server_handled_total", "grpc_method, grpc_code", 'grpc_code!="OK"'
                    )
                },
            ),
            Panel(
                "Why calls are rejected",
                "reqps",
                {"{{reason}}": rate("atelier_rejections_total", "reason")},
                "QUEUE_FULL, TENANT_QUOTA and TOO_MANY_BYTES ask for capacity or other limits.",
            ),
        ],
        [
            Panel(
                "Callers that follow progress",
                "short",
                {"watchers": latest("atelier_watchers", "job")},
            ),
            Panel(
                "Free bytes of the data volume",
                "bytes",
                {"free": latest("atelier_storage_free_bytes", "job", "min")},
            ),
            Panel(
                "Attempts that were lost or given back",
                "reqps",
                {
                    "{{engine}} {{outcome}}": rate(
                        "atelier_attempts_total", "engine, outcome", 'outcome=~"abandoned|released"'
                    )
                },
                "abandoned: the server was killed; released: it drained before they ended.",
            ),
        ],
        [
            Panel(
                "Versions that run",
                "short",
                {
                    "{{version}} on Python {{python}}": latest(
                        "atelier_build_info", "version, python"
                    )
                },
            ),
            Panel("Storage writes", "short", {"up": latest("atelier_storage_up", "job", "min")}),
            Panel(
                "Days until the certificate expires",
                "d",
                {
                    "days": f"(min by (job) (atelier_tls_certificate_expiry_timestamp_seconds{{{SELECTED}}} > 0)"
                    " - time()) / 86400"
                },
            ),
        ],
    ],
)
ENGINES = Dashboard(
    "engines",
    "Atelier: engines and GPUs",
    [
        [
            Panel(
                "Engines that are ready",
                "short",
                {"{{engine}}": latest("atelier_engine_up", "engine")},
            ),
            Panel(
                "Circuit breakers that are open",
                "short",
                {"{{engine}}": latest("atelier_breaker_open", "engine", "max")},
                "The engine failed several times in a row, and gets no tasks for a while.",
            ),
            Panel(
                "Components on another runtime than configured",
                "short",
                {"{{engine}}": latest("atelier_runtime_fallbacks", "engine")},
            ),
        ],
        [
            Panel("Waiting", "short", {"{{engine}}": latest("atelier_queue_depth", "engine")}),
            Panel("Running", "short", {"{{engine}}": latest("atelier_in_flight", "engine")}),
            Panel(
                "Seconds of work ahead",
                "s",
                {"{{engine}}": latest("atelier_backlog_seconds", "engine", "max")},
                "What autoscaling looks at.",
            ),
        ],
        [
            Panel(
                "Workers",
                "short",
                {"{{engine}} {{state}}": latest("atelier_workers", "engine, state", "max")},
                "With gateways and workers. gone: one died less than a day ago.",
            ),
            Panel(
                "Seconds of work of all servers",
                "s",
                {"{{engine}}": latest("atelier_shared_backlog_seconds", "engine", "max")},
                "As one slot would need; what pools of workers are scaled by.",
            ),
        ],
        [
            Panel(
                "Steps",
                "ops",
                {"{{engine}} {{model}}": rate("atelier_steps_total", "engine, model")},
            ),
            Panel(
                "Outputs",
                "ops",
                {"{{engine}} {{model}}": rate("atelier_outputs_total", "engine, model")},
            ),
            Panel(
                "Memory of one image beside the weights (p95)",
                "bytes",
                {"{{engine}}": quantile(0.95, "atelier_memory_bytes", "engine")},
            ),
        ],
        [
            Panel(
                "Requests that share a run of the model (p50, p95)",
                "short",
                {
                    "{{engine}} p50": quantile(0.5, "atelier_batch_size", "engine"),
                    "{{engine}} p95": quantile(0.95, "atelier_batch_size", "engine"),
                },
                "Weighted by steps. Near 1 with a queue: max_batch is too low, or tasks are too unlike to share runs.",
            ),
            Panel(
                "Components of models that were not where they run",
                "ops",
                {
                    "{{device}} {{outcome}}": rate(
                        "atelier_model_cache_uses_total", "device, outcome", 'outcome!="hit"'
                    ),
                    "{{device}} evicted": rate("atelier_model_cache_evictions_total", "device"),
                },
                "Again and again: the models do not fit beside each other; fewer engines, or more memory.",
            ),
            Panel(
                "Memory of loaded models",
                "bytes",
                {"{{device}}": latest("atelier_model_cache_bytes", "device")},
            ),
        ],
        [
            Panel(
                "GPU memory in use",
                "bytes",
                {
                    "{{instance}} {{gpu}}": latest(
                        "atelier_gpu_memory_used_bytes", "instance, gpu"
                    ),
                    "{{instance}} {{gpu}} of": latest(
                        "atelier_gpu_memory_total_bytes", "instance, gpu"
                    ),
                },
                "From NVIDIA's driver, where there is one, with the extra `nvml`.",
            ),
            Panel(
                "GPU utilisation",
                "percentunit",
                {"{{instance}} {{gpu}}": latest("atelier_gpu_utilization_ratio", "instance, gpu")},
                "Share of the time in which something ran. Low with a queue: the GPU waits for the host.",
            ),
            Panel(
                "Power and temperature",
                "short",
                {
                    "{{instance}} {{gpu}} W": latest("atelier_gpu_power_watts", "instance, gpu"),
                    "{{instance}} {{gpu}} °C": latest(
                        "atelier_gpu_temperature_celsius", "instance, gpu"
                    ),
                },
            ),
        ],
        [
            Panel(
                "Runs that were not compiled",
                "ops",
                {"{{engine}}": rate("atelier_eager_runs_total", "engine")},
            ),
            Panel(
                "Share of results from the cache",
                "percentunit",
                {
                    "{{engine}}": rate("atelier_cache_lookups_total", "engine", 'outcome="hit"')
                    + " / "
                    + rate("atelier_cache_lookups_total", "engine")
                },
            ),
            Panel(
                "Memory of input images",
                "bytes",
                {"decoding": latest("atelier_decoding_bytes", "job")},
            ),
        ],
    ],
)
MONEY = Dashboard(
    "money",
    "Atelier: money and tenants",
    [
        [
            Panel(
                "Cost an hour",
                "currencyUSD",
                {
                    "{{engine}} {{currency}}": f"3600 * {rate('atelier_cost_total', 'engine, currency')}"
                },
            ),
            Panel(
                "Share of the daily budget that is used",
                "percentunit",
                {
                    "{{engine}}": f"{latest('atelier_daily_spent', 'engine')}"
                    f" / {latest('atelier_daily_budget', 'engine')}"
                },
            ),
            Panel(
                "Joules of one output",
                "joule",
                {
                    "all engines": f"{rate('atelier_gpu_energy_joules_total', 'job')}"
                    f" / {rate('atelier_outputs_total', 'job')}"
                },
                "What the GPUs draw, idle or not, shared among the outputs of the time.",
            ),
            Panel(
                "Cost of one output",
                "currencyUSD",
                {
                    "{{engine}}": f"{rate('atelier_cost_total', 'engine')} / {rate('atelier_outputs_total', 'engine')}"
                },
            ),
        ],
        [
            Panel(
                "Rejected for quotas, budgets and rights",
                "reqps",
                {
                    "{{reason}}": rate(
                        "atelier_rejections_total",
                        "reason",
                        'reason=~"TENANT_QUOTA|BUDGET_EXCEEDED|PERMISSION_DENIED|UNAUTHENTICATED"',
                    )
                },
                "Which tenant it was is in the audit log: tenants are no labels, for there may be many.",
            ),
            Panel(
                "Outputs that were made before",
                "ops",
                {"{{engine}}": rate("atelier_reused_outputs_total", "engine")},
            ),
            Panel(
                "Bytes stored a second",
                "Bps",
                {"{{direction}}": rate("atelier_artifact_bytes_sum", "direction")},
            ),
        ],
    ],
)
DASHBOARDS = (SERVICE, ENGINES, MONEY)
