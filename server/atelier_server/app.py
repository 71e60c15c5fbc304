"""The only place where constructors meet: start-up and drain, top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import signal
import time
from collections.abc import AsyncGenerator, Coroutine, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from grpc import aio

from atelier_engines import registry
from atelier_engines.engine import Engine
from atelier_engines.wrappers.breaker import BreakerEngine
from atelier_engines.wrappers.caching import CachingEngine
from atelier_engines.wrappers.validating import ValidatingEngine
from atelier_server.admission.decide import Decider
from atelier_server.admission.inputs import InputLoader
from atelier_server.admission.resolve import Resolver
from atelier_server.admission.router import Router
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.blobs.filesystem import FileBlobStore
from atelier_server.artifacts.encode import Encoder
from atelier_server.artifacts.export import OutputExporter
from atelier_server.config.load import ConfigurationError
from atelier_server.config.settings import EngineSettings, Settings
from atelier_server.engines.status import EngineStatuses
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.errors import DataDirectoryInUseError
from atelier_server.execution.finalize import AttemptFinalizer
from atelier_server.execution.worker import Worker
from atelier_server.generations.lifecycle import GenerationLifecycle
from atelier_server.malloc import tune_malloc
from atelier_server.metrics import BACKLOG_SECONDS, CACHE_BYTES, CACHE_LOOKUPS, QUEUE_DEPTH
from atelier_server.metrics_http import MetricsServer
from atelier_server.rpc import server as rpc_server
from atelier_server.rpc.health import Health
from atelier_server.rpc.service import GenerationService
from atelier_server.store.protocol import Store
from atelier_server.store.sqlite.store import SqliteStore

_log = logging.getLogger(__name__)
_SWEEP_SECONDS = 1.0
_GOODBYE_SECONDS = 1.0  # for the last answers to reach their callers


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        ConfigurationError: the settings would serve everybody without TLS.
        DataDirectoryInUseError: another server uses the data directory.
        OSError: a port can't be listened on.
    """
    _require_loopback(settings)
    tune_malloc()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    with _exclusive(settings.data_dir):
        async with running(settings):
            await stop.wait()


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[str]:
    """A server that listens inside the context, and drains on leaving it; yields its gRPC address."""
    service = await _assemble(settings)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(service.store.close)
        stack.callback(service.encoder.close)
        address = rpc_server.listen(service.server, settings.listen)
        metrics = stack.enter_context(_serve_metrics(settings, service.generations))
        upkeep = _begin(
            [
                supervisor.supervise(settings.health_interval_seconds)
                for supervisor in service.supervisors
            ]
        )
        sweeping = _begin([_sweep(service)])
        workers = _begin([worker.run() for worker in service.workers])
        await service.server.start()
        await service.health.serve()
        _log.info("server_started", extra={"address": address, "metrics": metrics})
        try:
            yield address
        finally:
            _log.info("drain_started", extra={"seconds": settings.drain_seconds})
            await _refuse_new_work(service)
            await _idle(service.supervisors, settings.drain_seconds)
            await _end(workers)  # what still runs is given back to its queue
            await service.server.stop(_GOODBYE_SECONDS)
            await _end(upkeep + sweeping)
            await asyncio.gather(*(supervisor.stop() for supervisor in service.supervisors))
    _log.info("server_stopped")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Service:
    store: Store
    artifacts: ArtifactStore
    encoder: Encoder
    supervisors: Sequence[EngineSupervisor]
    generations: GenerationLifecycle
    workers: Sequence[Worker]
    health: Health
    server: aio.Server


async def _assemble(settings: Settings) -> _Service:
    """Make every part and hand it the parts that it needs; nothing runs yet."""
    store = await SqliteStore.open(
        settings.data_dir / "atelier.db",
        retention_seconds=settings.store.retention_seconds,
        max_attempts=settings.store.max_attempts,
        synchronous=settings.store.synchronous,
    )
    artifacts = ArtifactStore(
        store,
        FileBlobStore(settings.data_dir / "artifacts"),
        retention_seconds=settings.store.retention_seconds,
        max_upload_bytes=settings.limits.max_upload_bytes,
    )
    await artifacts.delete_orphans()
    encoder = Encoder(metadata=settings.outputs.metadata)
    health = Health()
    statuses = EngineStatuses()
    statuses.subscribe(health.follow)
    supervisors = [
        EngineSupervisor(name, engine, _build_engine(name, engine), statuses)
        for name, engine in settings.engines.items()
    ]
    for supervisor in supervisors:
        supervisor.restore_spending(await store.spent_today(supervisor.name))
    decider = Decider(
        inputs=InputLoader(artifacts, max_pixels=settings.limits.max_input_pixels),
        router=Router(statuses, settings.default_engine or next(iter(statuses))),
        resolver=Resolver(styles=settings.styles, loras=settings.loras),
    )
    exporter = (
        OutputExporter(settings=settings.export, styles=settings.styles)
        if settings.export
        else None
    )
    generations = GenerationLifecycle(store, decider)
    service = GenerationService(generations, artifacts, settings.limits)
    workers = [
        Worker(
            supervisor=supervisor,
            store=store,
            artifacts=artifacts,
            encoder=encoder,
            decider=decider,
            finalizer=AttemptFinalizer(
                supervisor=supervisor,
                store=store,
                artifacts=artifacts,
                decider=decider,
                exporter=exporter,
            ),
        )
        for supervisor in supervisors
        for _ in range(supervisor.status.capabilities.concurrency)
    ]
    return _Service(
        store=store,
        artifacts=artifacts,
        encoder=encoder,
        supervisors=supervisors,
        generations=generations,
        workers=workers,
        health=health,
        server=rpc_server.build(service, health, settings.limits),
    )


def _build_engine(name: str, settings: EngineSettings) -> Engine:
    """The engine inside its wrappers: breaker, result cache, validation."""
    engine = registry.load(settings.type).create(settings.config)
    breaker = BreakerEngine(
        inner=engine,
        failure_threshold=settings.breaker.failure_threshold,
        reset_timeout_seconds=settings.breaker.reset_timeout_seconds,
    )
    cached = (
        _cached(name, breaker, settings.result_cache_bytes)
        if settings.result_cache_bytes
        else breaker
    )
    return ValidatingEngine(cached)


def _cached(name: str, engine: Engine, max_bytes: int) -> CachingEngine:
    """The engine with its results kept, and what metrics say of that."""

    def count(found: bool) -> None:  # noqa: FBT001 (a callback)
        CACHE_LOOKUPS.labels(name, "hit" if found else "miss").inc()

    cached = CachingEngine(inner=engine, name=name, max_bytes=max_bytes, on_lookup=count)
    CACHE_BYTES.labels(name).set_function(lambda: cached.held_bytes)
    return cached


@contextmanager
def _serve_metrics(settings: Settings, generations: GenerationLifecycle) -> Generator[str | None]:
    """Serve metrics and probes over HTTP if configured; yields the address."""
    if settings.metrics is None:
        yield None
        return
    metrics_server = MetricsServer(settings.metrics, ready=lambda: not generations.draining)
    try:
        yield metrics_server.address
    finally:
        metrics_server.close()


async def _refuse_new_work(service: _Service) -> None:
    """Say NOT_SERVING first, so that nobody is surprised to be refused."""
    await service.health.drain()
    service.generations.draining = True
    for supervisor in service.supervisors:
        supervisor.drain()


def _begin(works: Sequence[Coroutine[None, None, None]]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(work) for work in works]


async def _idle(supervisors: Sequence[EngineSupervisor], seconds: float) -> None:
    """Wait until nothing runs, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for supervisor in supervisors:
                await supervisor.idle.wait()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.error("background_task_failed", exc_info=outcome)


async def _sweep(service: _Service) -> None:
    """Now and then forget what is over, and tell the metrics how long the queues are."""
    while True:
        try:
            await service.artifacts.sweep(time.time())
            for supervisor in service.supervisors:
                queued = await service.store.queue_depth(supervisor.name)
                QUEUE_DEPTH.labels(supervisor.name).set(queued)
                backlog = supervisor.status.backlog_seconds(queued)
                BACKLOG_SECONDS.labels(supervisor.name).set(backlog or 0.0)
        except Exception:  # noqa: BLE001 (a full disk today must not keep us from sweeping tomorrow)
            _log.exception("sweep_failed")
        await asyncio.sleep(_SWEEP_SECONDS)


def _require_loopback(settings: Settings) -> None:
    host = settings.listen.rpartition(":")[0].strip("[]")
    local = host == "localhost"
    with contextlib.suppress(ValueError):
        local = local or ipaddress.ip_address(host).is_loopback
    if not local and not settings.allow_insecure:
        msg = (
            f"listen: {settings.listen} can be reached by other machines, and this server has neither TLS nor keys; "
            "listen on 127.0.0.1, or say allow_insecure: true (--allow-insecure)"
        )
        raise ConfigurationError(msg)


@contextmanager
def _exclusive(data: Path) -> Generator[None]:
    """Hold the data directory for this process alone."""
    data.mkdir(parents=True, exist_ok=True)
    with (data / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            msg = f"another server has {data} open; give this one its own --data"
            raise DataDirectoryInUseError(msg) from error
        yield
