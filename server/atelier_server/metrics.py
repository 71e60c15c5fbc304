"""Everything that Prometheus can scrape."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # twice the lines for nothing that a scraper does not know

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
_BYTES = tuple(4.0**power for power in range(5, 15))

GENERATIONS = Counter("atelier_generations_total", "Generations that ended.", ["engine", "outcome"])
GENERATION_SECONDS = Histogram(
    "atelier_generation_seconds",
    "From acceptance to end, of those that succeeded.",
    ["engine"],
    buckets=_SECONDS,
)
QUEUE_SECONDS = Histogram(
    "atelier_queue_seconds", "From acceptance to the first attempt.", ["engine"], buckets=_SECONDS
)
STAGE_SECONDS = Histogram(
    "atelier_stage_seconds", "Time in each stage.", ["engine", "stage"], buckets=_SECONDS
)
QUEUE_DEPTH = Gauge("atelier_queue_depth", "Generations that wait.", ["engine"])
IN_FLIGHT = Gauge("atelier_in_flight", "Generations that are worked on.", ["engine"])
BACKLOG_SECONDS = Gauge(
    "atelier_backlog_seconds", "Work waiting and in hand, at the measured rate.", ["engine"]
)
ENGINE_UP = Gauge("atelier_engine_up", "1 while the engine can work.", ["engine"])
COST = Counter("atelier_cost_total", "Money that generations have cost.", ["engine", "currency"])
CACHE_LOOKUPS = Counter(
    "atelier_cache_lookups_total",
    "Tasks looked for among kept results, by whether there was one (hit, miss).",
    ["engine", "outcome"],
)
CACHE_BYTES = Gauge("atelier_cache_bytes", "Kept results, in memory.", ["engine"])
ARTIFACT_BYTES = Histogram(
    "atelier_artifact_bytes", "Sizes of stored artifacts.", ["direction"], buckets=_BYTES
)
GRPC_STARTED = Counter("grpc_server_started_total", "Calls begun.", ["grpc_service", "grpc_method"])
GRPC_HANDLED = Counter(
    "grpc_server_handled_total", "Calls ended.", ["grpc_service", "grpc_method", "grpc_code"]
)
GRPC_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Time of calls.",
    ["grpc_service", "grpc_method"],
    buckets=_SECONDS,
)
