"""Constructs the parts of a server from its settings, each with the parts that it needs; nothing runs yet."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from atelier_engines.capabilities import CancelSupport
from atelier_engines.engine import Engine
from atelier_engines.validation import ValidatingEngine
from atelier_engines.wrappers.breaker import BreakerEngine
from atelier_engines.wrappers.caching import CachingEngine
from atelier_engines.wrappers.time_limit import TimeLimitEngine
from atelier_server.admission.decide import Decider
from atelier_server.admission.inputs import InputLoader
from atelier_server.admission.policies import Policy
from atelier_server.admission.router import Router
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.artifacts.blobs.base import BlobStore
from atelier_server.artifacts.blobs.opening import open_blobs, watched_directory
from atelier_server.artifacts.decode import Decoder
from atelier_server.artifacts.encode import Encoder
from atelier_server.artifacts.export import OutputExporter
from atelier_server.artifacts.storage import StorageMonitor
from atelier_server.auth.authenticator import open_authenticator
from atelier_server.config.engine_settings import EngineSettings
from atelier_server.config.limit_settings import LimitSettings
from atelier_server.config.security_settings import TenantLimits
from atelier_server.config.settings import Settings
from atelier_server.engines.creation import create_engine
from atelier_server.engines.recall import recall
from atelier_server.engines.registered_engines import RegisteredEngines
from atelier_server.engines.status import EngineStatuses, NamesOf
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.errors import MissingPackageError
from atelier_server.estimates.backlog import Backlog
from atelier_server.execution.attempt import AttemptFinalizer
from atelier_server.execution.cancelled_jobs import CancelledJobs
from atelier_server.execution.queue_handover import QueueHandover
from atelier_server.execution.removed_engine import RemovedEngineWorker
from atelier_server.execution.spending_gate import SpendingGate
from atelier_server.execution.worker import Worker
from atelier_server.generations.lifecycle import GenerationLifecycle
from atelier_server.generations.queues import EngineQueues
from atelier_server.generations.tenant_quotas import TenantQuotas
from atelier_server.metrics import (
    BREAKER_OPEN,
    BUILD_INFO,
    CACHE_BYTES,
    CACHE_LOOKUPS,
    DAILY_BUDGET,
    DAILY_SPENT,
)
from atelier_server.reloading import Reloaded
from atelier_server.rpc.certificates import ServerTls, open_tls
from atelier_server.rpc.connect.front import Front, make_front
from atelier_server.rpc.health import Health
from atelier_server.rpc.server import Access, GrpcServer
from atelier_server.rpc.service import GenerationService
from atelier_server.store.protocol import Store
from atelier_server.store.quotas import RunningLimits
from atelier_server.store.sqlite.store import SqliteStore
from atelier_server.store.worker_protocol import WorkerRegistry
from atelier_server.version import VERSION


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Service:
    """The parts of a server that start-up, drain and periodic work act on."""

    store: Store
    artifacts: ArtifactStore
    supervisors: Sequence[EngineSupervisor]
    statuses: EngineStatuses
    generations: GenerationLifecycle
    workers: Sequence[Worker | RemovedEngineWorker]
    handover: QueueHandover
    queues: EngineQueues
    registered: RegisteredEngines | None
    """The engines of all servers that use the store; None where no other server may use it."""
    health: Health
    server: GrpcServer
    front: Front
    """What answers over HTTP."""
    tls: ServerTls | None
    files: Sequence[Reloaded[Any]]
    """What is read again when it changes."""


async def assemble(settings: Settings, stack: AsyncExitStack) -> Service:
    """Construct every part. What must be closed at the end is closed by `stack`.

    Raises:
        DatabaseUnusableError: the database is damaged, or cannot be opened.
        MissingPackageError: what the settings ask for is not installed.
        EngineError: an engine cannot be constructed.
    """
    BUILD_INFO.labels(VERSION, platform.python_version()).set(1)
    engines = {name: create_engine(engine) for name, engine in settings.engines.items()}
    limits = _find_limits(settings)
    is_shared = settings.store.type == "postgres"
    statuses = EngineStatuses(Backlog(limits.find_weight), own=engines if is_shared else None)
    store, registry = await _open_store(settings, engines, statuses)
    stack.push_async_callback(store.close)
    blobs = open_blobs(settings, stack)
    artifacts = await _open_artifacts(settings, store, blobs)
    supervisors = [
        await _supervise_engine(name, engine, settings.engines[name], statuses, store)
        for name, engine in engines.items()
    ]
    await recall(store, supervisors, statuses.backlog)
    registered = None
    if registry is not None:
        registered = await RegisteredEngines.open(registry, statuses, tuple(engines))
    decider = _make_decider(settings, statuses, artifacts, stack)
    storage = StorageMonitor(
        watched_directory(settings), store, blobs, min_free_bytes=settings.store.min_free_bytes
    )
    await storage.check_first()
    quotas = TenantQuotas(store, limits)
    generations = GenerationLifecycle(store, decider, settings.limits, storage, quotas)
    health = Health(statuses, is_ready=lambda: not generations.unready_reason)
    queues = await EngineQueues.open(store, statuses, shares_store=is_shared)
    service = GenerationService(generations, artifacts, queues, settings.limits)
    tls = None if settings.tls is None else open_tls(settings.tls)
    access, files = _open_access(settings, tls)
    server = GrpcServer.build(service, health, settings.limits, access)
    return Service(
        store=store,
        artifacts=artifacts,
        supervisors=supervisors,
        statuses=statuses,
        generations=generations,
        workers=[
            *_make_workers(settings, supervisors, generations, artifacts, stack),
            *(await _make_removed_workers(store, decider) if settings.role == "all" else ()),
        ],
        handover=QueueHandover(store=store, decider=decider),
        queues=queues,
        registered=registered,
        health=health,
        server=server,
        front=make_front(settings, service, server.interceptors),
        tls=tls,
        files=files,
    )


def _make_decider(
    settings: Settings, statuses: EngineStatuses, artifacts: ArtifactStore, stack: AsyncExitStack
) -> Decider:
    return Decider(
        inputs=InputLoader(artifacts, _make_decoder(settings.limits, stack)),
        router=Router(statuses, settings.default_engine, Policy(settings.routing)),
        styles=settings.styles,
        loras=settings.loras,
        rules=settings.routing_rules,
    )


def _find_limits(settings: Settings) -> TenantLimits:
    return TenantLimits(named=settings.tenants, default=settings.tenant_defaults)


def _open_access(
    settings: Settings, tls: ServerTls | None
) -> tuple[Access, Sequence[Reloaded[Any]]]:
    """How calls reach the server and whose, with the files that are read again when they change."""
    authenticator = None if settings.auth is None else open_authenticator(settings.auth)
    access = Access(
        credentials=None if tls is None else tls.make_credentials(),
        authenticator=authenticator,
        reflection=settings.reflection,
        limits=_find_limits(settings),
        audit=settings.log.audit,
    )
    files = [] if tls is None else [tls.certificates]
    return access, [*files, *(() if authenticator is None else authenticator.files)]


async def _make_removed_workers(store: Store, decider: Decider) -> list[RemovedEngineWorker]:
    return [
        RemovedEngineWorker(engine=name, store=store, decider=decider)
        for name in await store.list_queued_engines()
        if name not in decider.router.engines
    ]


def _make_decoder(limits: LimitSettings, stack: AsyncExitStack) -> Decoder:
    decoder = Decoder(max_pixels=limits.max_input_pixels, max_bytes=limits.max_decoding_bytes)
    stack.callback(decoder.close)
    return decoder


async def _open_artifacts(settings: Settings, store: Store, blobs: BlobStore) -> ArtifactStore:
    artifacts = ArtifactStore(
        store,
        blobs,
        retention_seconds=settings.store.retention_seconds,
        max_upload_bytes=settings.limits.max_upload_bytes,
    )
    if settings.artifacts.type == "directory":
        await artifacts.delete_abandoned()  # no attempt is running yet
    else:  # to list a bucket takes long: the sweep deletes what is abandoned
        await artifacts.keep_unknown()
    return artifacts


async def _open_store(
    settings: Settings, engines: Mapping[str, Engine], statuses: EngineStatuses
) -> tuple[Store, WorkerRegistry | None]:
    """The store, and what servers that share it tell each other in it, if it can be shared."""
    known = {name: engine.capabilities for name, engine in engines.items()}
    local = NamesOf(statuses, lambda can: can.cancel is CancelSupport.STEP, known)
    free = NamesOf(statuses, lambda can: not can.may_cost, known)
    limits = _find_limits(settings)
    running = limits.find_max_running if limits.limit_running else None
    if settings.store.dsn is not None:
        rules = {"local_engines": local, "free_engines": free}
        return await _open_postgres(settings, rules, running)
    store = await SqliteStore.open(
        settings.data_dir / "atelier.db",
        retention_seconds=settings.store.retention_seconds,
        max_attempts=settings.store.max_attempts,
        synchronous=settings.store.synchronous,
        local_engines=local,
        free_engines=free,
        running_limits=running,
    )
    return store, None


async def _open_postgres(
    settings: Settings, engines: Mapping[str, NamesOf], running_limits: RunningLimits | None
) -> tuple[Store, WorkerRegistry]:
    try:
        from atelier_server.store.postgres.store import PostgresStore, RecoveryRules  # noqa: PLC0415 (an extra)
    except ImportError as error:
        msg = "a store of type postgres needs one more package: pip install 'atelier-server[postgres]'"
        raise MissingPackageError(msg) from error
    given = settings.store
    assert given.dsn is not None  # noqa: S101 (the settings check it)
    store = await PostgresStore.open(
        given.dsn.get_secret_value(),
        retention_seconds=given.retention_seconds,
        lease_seconds=given.lease_seconds,
        rules=RecoveryRules(
            max_attempts=given.max_attempts,
            local_engines=engines["local_engines"],
            free_engines=engines["free_engines"],
            running_limits=running_limits,
            runs_engines=settings.role != "gateway",
        ),
    )
    return store, store.workers


async def _supervise_engine(
    name: str, engine: Engine, settings: EngineSettings, statuses: EngineStatuses, store: Store
) -> EngineSupervisor:
    """The engine inside its wrappers (validation, time limit, circuit breaker, result cache), supervised.

    The breaker is outside of the others, which raise what the engine does wrong.
    """
    wrapped: Engine = ValidatingEngine(engine)
    if settings.timeout_seconds is not None:
        wrapped = TimeLimitEngine(inner=wrapped, seconds=settings.timeout_seconds)
    wrapped = breaker = BreakerEngine(
        inner=wrapped,
        failure_threshold=settings.breaker.failure_threshold,
        reset_timeout_seconds=settings.breaker.reset_timeout_seconds,
    )
    BREAKER_OPEN.labels(name).set_function(lambda: breaker.is_open)
    if settings.result_cache_bytes:
        wrapped = _cache_results(name, wrapped, settings)
    supervisor = EngineSupervisor(name, settings, wrapped, statuses)
    supervisor.restore_spending(await store.spent_today(name))
    if settings.daily_budget is not None:
        DAILY_BUDGET.labels(name).set(settings.daily_budget)
        DAILY_SPENT.labels(name).set_function(lambda: supervisor.status.budget.spent_today)
    return supervisor


def _cache_results(name: str, engine: Engine, settings: EngineSettings) -> CachingEngine:
    def count(found: bool) -> None:  # noqa: FBT001 (a callback)
        CACHE_LOOKUPS.labels(name, "hit" if found else "miss").inc()

    caching = CachingEngine(
        inner=engine,
        name=name,
        max_bytes=settings.result_cache_bytes,
        shared=settings.share_result_cache,
        on_lookup=count,
    )
    CACHE_BYTES.labels(name).set_function(lambda: caching.held_bytes)
    return caching


def _make_workers(
    settings: Settings,
    supervisors: Sequence[EngineSupervisor],
    generations: GenerationLifecycle,
    artifacts: ArtifactStore,
    stack: AsyncExitStack,
) -> Sequence[Worker]:
    """As many workers for each engine as it runs tasks at a time."""
    encoder = Encoder(metadata=settings.outputs.metadata)
    stack.callback(encoder.close)
    exporter = (
        OutputExporter(settings=settings.export, styles=settings.styles)
        if settings.export is not None
        else None
    )
    gates = {
        supervisor.name: SpendingGate(supervisor=supervisor, store=generations.store)
        for supervisor in supervisors
        if supervisor.status.budget.limit is not None
    }
    cancelled_jobs = {
        supervisor.name: CancelledJobs(
            engine=supervisor.engine,
            engine_name=supervisor.name,
            decider=generations.decider,
            store=generations.store,
            storage=generations.storage,
        )
        for supervisor in supervisors
    }
    return [
        Worker(
            supervisor=supervisor,
            cancelled_jobs=cancelled_jobs[supervisor.name],
            spending=gates.get(supervisor.name),
            store=generations.store,
            storage=generations.storage,
            artifacts=artifacts,
            encoder=encoder,
            decider=generations.decider,
            finalizer=AttemptFinalizer(
                supervisor=supervisor,
                store=generations.store,
                storage=generations.storage,
                artifacts=artifacts,
                decider=generations.decider,
                exporter=exporter,
            ),
        )
        for supervisor in supervisors
        for _ in range(supervisor.status.capabilities.concurrency)
    ]
