"""The metrics that Prometheus scrapes."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # they double the output, and Prometheus does not need them

_SECONDS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 900, 3600, 10_800, 43_200)
_BYTES = tuple(4.0**power for power in range(5, 15))
_MESSAGE_BYTES = (0, *_BYTES, 4.0**15)
_BATCHES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)

BUILD_INFO = Gauge(
    "atelier_build_info",
    "1; the labels say which version runs on which Python.",
    ["version", "python"],
)
GENERATIONS = Counter(
    "atelier_generations_total",
    "Generations that ended (succeeded, failed, cancelled or deadline_exceeded).",
    ["engine", "outcome"],
)
FAILURES = Counter(
    "atelier_failures_total", "Generations that failed, by the reason.", ["engine", "reason"]
)
ATTEMPTS = Counter(
    "atelier_attempts_total",
    "Attempts of generations that have ended: succeeded, failed, cancelled, abandoned (crash) or released (drain).",
    ["engine", "outcome"],
)
REJECTIONS = Counter(
    "atelier_rejections_total",
    "Calls that ended with an error of the service, by the reason.",
    ["reason"],
)
WATCHERS = Gauge("atelier_watchers", "Calls that follow every event of a generation.")
GENERATION_SECONDS = Histogram(
    "atelier_generation_seconds",
    "Time from acceptance to end of generations that succeeded.",
    ["engine"],
    buckets=_SECONDS,
)
QUEUE_SECONDS = Histogram(
    "atelier_queue_seconds",
    "Time from acceptance to the first attempt, by the priority (interactive or batch).",
    ["engine", "priority"],
    buckets=_SECONDS,
)
STAGE_SECONDS = Histogram(
    "atelier_stage_seconds", "Time in each stage.", ["engine", "stage"], buckets=_SECONDS
)
OUTPUTS = Counter(
    "atelier_outputs_total", "Images and audio of generations that succeeded.", ["engine", "model"]
)
STEPS = Counter("atelier_steps_total", "Steps of generations that succeeded.", ["engine", "model"])
MEMORY_BYTES = Histogram(
    "atelier_memory_bytes",
    "Memory that an image took beside the model's weights, where the engine knows it.",
    ["engine"],
    buckets=_BYTES,
)
BATCH_SIZE = Histogram(
    "atelier_batch_size",
    "Requests, of one generation or of several, that shared the run of the model which made a step.",
    ["engine"],
    buckets=_BATCHES,
)
EAGER_RUNS = Counter(
    "atelier_eager_runs_total",
    "Runs of a model's networks that met a shape, or LoRAs, that they are not compiled for.",
    ["engine"],
)
QUEUE_DEPTH = Gauge("atelier_queue_depth", "Generations that are waiting.", ["engine"])
QUEUE_AGE_SECONDS = Gauge(
    "atelier_queue_age_seconds",
    "How long the generation that waits longest has waited, since it entered the queue or the server started.",
    ["engine"],
)
IN_FLIGHT = Gauge("atelier_in_flight", "Generations that are running.", ["engine"])
BACKLOG_SECONDS = Gauge(
    "atelier_backlog_seconds",
    "Estimated time to the end of all waiting and running generations; absent while unknown.",
    ["engine"],
)
SHARED_BACKLOG_SECONDS = Gauge(
    "atelier_shared_backlog_seconds",
    "Seconds that one slot takes for all that waits and runs, in all servers of a database; one of them has it.",
    ["engine"],
)
ENGINE_UP = Gauge("atelier_engine_up", "1 while the engine is ready.", ["engine"])
WORKERS = Gauge(
    "atelier_workers",
    "Servers that run the engine, by its state there; gone for a day where the last one has died. All servers of a "
    "PostgreSQL database show the same number.",
    ["engine", "state"],
)
BREAKER_OPEN = Gauge(
    "atelier_breaker_open", "1 while the engine's circuit breaker is open.", ["engine"]
)
RUNTIME_FALLBACKS = Gauge(
    "atelier_runtime_fallbacks",
    "Components of the engine's model that another runtime runs than is configured.",
    ["engine"],
)
COST = Counter("atelier_cost_total", "Cost of generations.", ["engine", "currency"])
DAILY_BUDGET = Gauge(
    "atelier_daily_budget", "What may be spent a day (UTC); absent without a budget.", ["engine"]
)
DAILY_SPENT = Gauge(
    "atelier_daily_spent", "What was spent today (UTC); absent without a budget.", ["engine"]
)
CACHE_LOOKUPS = Counter(
    "atelier_cache_lookups_total",
    "Lookups in the result cache (hit or miss).",
    ["engine", "outcome"],
)
REUSED_OUTPUTS = Counter(
    "atelier_reused_outputs_total",
    "Outputs that were made before, for other requests of the same or a similar prompt.",
    ["engine"],
)
CACHE_BYTES = Gauge("atelier_cache_bytes", "Size of the result cache.", ["engine"])
DECODING_BYTES = Gauge(
    "atelier_decoding_bytes",
    "Memory reserved for input images while they are decoded and used.",
)
STORAGE_FREE_BYTES = Gauge(
    "atelier_storage_free_bytes", "Free bytes of the data directory's file system."
)
STORAGE_UP = Gauge("atelier_storage_up", "1 while writes of the database and of artifacts succeed.")
ARTIFACT_BYTES = Histogram(
    "atelier_artifact_bytes", "Sizes of stored artifacts.", ["direction"], buckets=_BYTES
)
FILES_CURRENT = Gauge(
    "atelier_files_current",
    "1 while what is used is what the files of this key say; 0 while they are wrong, and the last ones are used.",
    ["key"],
)
CERTIFICATE_EXPIRY = Gauge(
    "atelier_tls_certificate_expiry_timestamp_seconds",
    "Unix time until which the certificate is valid; 0 without TLS.",
)
GRPC_STARTED = Counter(
    "grpc_server_started_total", "Calls that started.", ["grpc_service", "grpc_method"]
)
GRPC_HANDLED = Counter(
    "grpc_server_handled_total", "Calls that ended.", ["grpc_service", "grpc_method", "grpc_code"]
)
GRPC_SECONDS = Histogram(
    "grpc_server_handling_seconds",
    "Duration of calls.",
    ["grpc_service", "grpc_method"],
    buckets=_SECONDS,
)
CALLS_STARTED = Counter(
    "grpc_server_call_started_total",
    "Calls that started; this and those below by the names of gRPC's own metrics (gRFC A66).",
    ["grpc_method"],
)
CALL_SECONDS = Histogram(
    "grpc_server_call_duration_seconds",
    "Duration of calls.",
    ["grpc_method", "grpc_status"],
    buckets=_SECONDS,
)
CALL_SENT_BYTES = Histogram(
    "grpc_server_call_sent_total_compressed_message_size_bytes",
    "Size of all messages that were sent in a call; none are compressed.",
    ["grpc_method", "grpc_status"],
    buckets=_MESSAGE_BYTES,
)
CALL_RECEIVED_BYTES = Histogram(
    "grpc_server_call_rcvd_total_compressed_message_size_bytes",
    "Size of all messages that were received in a call, before they were decompressed.",
    ["grpc_method", "grpc_status"],
    buckets=_MESSAGE_BYTES,
)


@cache
def counter(metric: Counter, *labels: str) -> Counter:
    """The counter with these labels, which are few and never removed. Much faster than `labels` of the library."""
    return metric.labels(*labels)


@cache
def gauge(metric: Gauge, *labels: str) -> Gauge:
    """As `counter`."""
    return metric.labels(*labels)


@cache
def histogram(metric: Histogram, *labels: str) -> Histogram:
    """As `counter`."""
    return metric.labels(*labels)
