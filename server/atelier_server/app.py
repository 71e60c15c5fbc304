"""The only place where constructors meet: start-up and drain, top to bottom."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import signal
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from atelier_engines import registry
from atelier_engines.wrappers.guarded import GuardedEngine
from atelier_server.artifacts.directory import BlobDirectory
from atelier_server.artifacts.library import Library
from atelier_server.config.load import ConfigurationError
from atelier_server.config.settings import Settings
from atelier_server.exposition import Exposition
from atelier_server.generations.generations import Generations
from atelier_server.generations.inputs import InputLoader
from atelier_server.generations.pool import Pool
from atelier_server.generations.resolve import Resolver
from atelier_server.generations.router import Router
from atelier_server.generations.worker import Worker
from atelier_server.memory import keep_large_buffers
from atelier_server.metrics import BACKLOG_SECONDS, QUEUE_DEPTH
from atelier_server.rpc import server as rpc_server
from atelier_server.rpc.health import Health
from atelier_server.rpc.service import GenerationService
from atelier_server.store.contract import Store
from atelier_server.store.sqlite import SqliteStore

_log = logging.getLogger(__name__)
_SWEEP_SECONDS = 1.0
_GOODBYE_SECONDS = 1.0  # for the last answers to reach their callers


class DataInUseError(OSError):
    """Another server has the data directory open."""


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain.

    Raises:
        ConfigurationError: the settings would serve everybody without TLS.
        DataInUseError: another server has the data directory open.
        OSError: a port can't be listened on.
    """
    _require_loopback(settings)
    keep_large_buffers()
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    with _exclusive(settings.data):
        async with running(settings):
            await stop.wait()


@asynccontextmanager
async def running(settings: Settings) -> AsyncGenerator[str]:
    """A server that listens inside the context, and drains on leaving it; yields its gRPC address."""
    store = await SqliteStore.open(
        settings.data / "atelier.db",
        time_to_live_seconds=settings.store.time_to_live_seconds,
        max_attempts=settings.store.max_attempts,
        synchronous=settings.store.synchronous,
    )
    library = Library(
        store,
        BlobDirectory(settings.data / "artifacts"),
        time_to_live_seconds=settings.store.time_to_live_seconds,
        upload_limit=settings.limits.upload_bytes,
    )
    await library.delete_orphans()
    health = Health()
    pools = {name: _pool(name, settings, health) for name in settings.engines}
    router = Router(pools, settings.default_engine or next(iter(pools)))
    inputs = InputLoader(library, max_pixels=settings.limits.input_pixels)
    resolver = Resolver(styles=settings.styles, loras=settings.loras)
    generations = Generations(store, inputs, router, resolver)
    server = rpc_server.build(
        GenerationService(generations, library, settings.limits), health, settings.limits
    )
    address = rpc_server.listen(server, settings.listen)
    exposition = (
        Exposition(settings.metrics, ready=lambda: not generations.draining)
        if settings.metrics
        else None
    )
    upkeep = [
        asyncio.create_task(pool.keep_up(settings.health_interval_seconds))
        for pool in pools.values()
    ]
    upkeep.append(asyncio.create_task(_sweep(library, store, pools)))
    workers = [
        asyncio.create_task(
            Worker(
                pool=pool,
                store=store,
                library=library,
                inputs=inputs,
                router=router,
                resolver=resolver,
            ).work()
        )
        for pool in pools.values()
        for _ in range(pool.capabilities.concurrency)
    ]
    await server.start()
    await health.serve()
    metrics = f", metrics on http://{exposition.address}/metrics" if exposition else ""
    _log.info("listening on %s%s", address, metrics)
    try:
        yield address
    finally:
        _log.info("draining: up to %g s for what is running", settings.drain_seconds)
        await health.drain()
        generations.draining = True
        for pool in pools.values():
            pool.drain()
        await _idle(pools, settings.drain_seconds)
        await _end(workers)  # what still runs is given back to its queue
        await server.stop(_GOODBYE_SECONDS)
        await _end(upkeep)
        await asyncio.gather(*(pool.stop() for pool in pools.values()))
        if exposition:
            exposition.close()
        await store.close()
        _log.info("stopped")


def _pool(name: str, settings: Settings, health: Health) -> Pool:
    engine_settings = settings.engines[name]
    engine = registry.load(engine_settings.type).create(engine_settings.config)
    pool = Pool(name, engine_settings, GuardedEngine(engine), health.follow)
    health.follow(pool)
    return pool


async def _idle(pools: dict[str, Pool], seconds: float) -> None:
    """Wait until nothing runs, at most so long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for pool in pools.values():
                await pool.idle.wait()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.error("a task ended with an error", exc_info=outcome)


async def _sweep(library: Library, store: Store, pools: dict[str, Pool]) -> None:
    """Now and then forget what is over, and tell the metrics how long the queues are."""
    while True:
        await library.sweep(time.time())
        for pool in pools.values():
            queued = await store.queued(pool.name)
            QUEUE_DEPTH.labels(pool.name).set(queued)
            BACKLOG_SECONDS.labels(pool.name).set(pool.backlog_seconds(queued) or 0.0)
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
            raise DataInUseError(msg) from error
        yield
