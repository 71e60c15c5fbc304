"""Runs a server: start-up, serving, and drain."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

from atelier_engines.addresses import is_local
from atelier_engines.local.cpu import configure_threads
from atelier_server.assembly import Service, assemble
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.settings import Settings
from atelier_server.config.trace_environment import wants_traces
from atelier_server.config.warnings import find_warnings
from atelier_server.data_directory import lock_data_directory
from atelier_server.device_metrics import register_devices
from atelier_server.engines.supervisor import EngineSupervisor
from atelier_server.errors import StorageError
from atelier_server.generations.backlog_signal import BacklogSignal
from atelier_server.generations.lifecycle import GenerationLifecycle
from atelier_server.http_server import HttpServer
from atelier_server.malloc import tune_malloc
from atelier_server.metrics_http import listen_for_metrics
from atelier_server.reloading import reload_periodically
from atelier_server.rpc.external_scaler import ExternalScaler
from atelier_server.rpc.server import serve_health, serve_scaler
from atelier_server.sweep import sweep_periodically
from atelier_server.tracing.exporter import exporting

_log = logging.getLogger(__name__)
_GRACE_SECONDS = (
    1.0  # for the last responses to reach their callers, and for engines to give up their start
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where a server listens, with actual ports; None for what is disabled."""

    grpc: str
    """Empty for a worker."""
    metrics: str | None
    http: str | None


OnStart = Callable[[Settings, Addresses], None]
"""Is told the settings and the addresses, once all are served."""


async def serve(settings: Settings, *, on_start: OnStart | None = None) -> NoReturn:
    """Serve until SIGTERM, SIGINT or SIGHUP, then drain and end the process with 0.

    Raises:
        ConfigurationError: an address can be reached by other machines, which is not allowed.
        DataDirectoryInUseError: another server uses the data directory.
        OSError: an address cannot be listened on.
    """
    _require_loopback(settings)
    for warning in find_warnings(settings):
        _log.warning("configuration_questionable", extra={"warning": str(warning)})
    tune_malloc()
    stop = asyncio.Event()
    signals = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup ignores it
        signals.append(signal.SIGHUP)
    for name in signals:
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    async with running(settings, on_start):
        await stop.wait()
    _exit_at_once()


@asynccontextmanager
async def running(settings: Settings, on_start: OnStart | None = None) -> AsyncGenerator[str]:
    """Run a server inside the context, and drain it at the end; yields its gRPC address, empty for a worker.

    Raises:
        DataDirectoryInUseError: another server uses the data directory, in this process or another.
        OSError: an address cannot be listened on, or the data directory cannot be written.
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(lock_data_directory(settings.data_dir))
        stack.enter_context(exporting(wanted=wants_traces()))
        if settings.threads is not None:
            configure_threads(settings.threads)
        service = await assemble(settings, stack)
        answers = settings.role != "worker"
        address = service.server.listen(settings.listen) if answers else ""
        http = _listen_http(settings, service) if answers else None
        metrics = await stack.enter_async_context(_serve_metrics(settings, service.generations))
        backlog = BacklogSignal(service.store)
        await stack.enter_async_context(_serve_beside(settings, service, backlog))
        interval = settings.health_interval_seconds
        supervised = {
            supervisor: asyncio.create_task(supervisor.supervise(interval))
            for supervisor in service.supervisors
        }
        upkeep = _start_tasks(_list_upkeep(settings, service, backlog))
        workers = _start_tasks([worker.run() for worker in service.workers])
        if answers:
            await service.server.start()
        if http is not None:
            http.start()
        await service.health.refresh()
        addresses = Addresses(
            grpc=address, metrics=metrics, http=None if http is None else http.address
        )
        _log.info(
            "server_started",
            extra={"address": address, "metrics": metrics, "http": addresses.http},
        )
        if on_start is not None:
            on_start(settings, addresses)
        try:
            yield address
        finally:
            _log.info("drain_started", extra={"seconds": settings.drain_seconds})
            await _refuse_new_work(service)
            await _wait_idle(service, settings.drain_seconds)
            await _stop_tasks(workers)  # what still runs is requeued
            await asyncio.gather(
                service.server.stop(_GRACE_SECONDS, http),
                _stop_tasks(upkeep),
                _stop_engines(supervised),
            )
    _log.info("server_stopped")


def _list_upkeep(
    settings: Settings, service: Service, backlog: BacklogSignal
) -> list[Coroutine[None, None, None]]:
    return [
        sweep_periodically(service),
        reload_periodically(service.files),
        backlog.export_periodically(settings.engines),
        *([] if service.registered is None else [service.registered.run()]),
    ]


@asynccontextmanager
async def _serve_beside(
    settings: Settings, service: Service, backlog: BacklogSignal
) -> AsyncGenerator[None]:
    """Answer probes and KEDA at addresses of their own, if configured."""
    tls = None if service.tls is None else service.tls.make_credentials()
    async with (
        serve_health(settings.health_listen, service.health),
        serve_scaler(settings.scaler_listen, ExternalScaler(backlog), tls),
    ):
        yield


def _listen_http(settings: Settings, service: Service) -> HttpServer | None:
    """Open the HTTP port if it is configured."""
    if settings.http is None:
        return None
    return HttpServer.listen(
        settings.http,
        service.front,
        grace_seconds=2 * _GRACE_SECONDS,
        make_tls=None if service.tls is None else service.tls.make_context,
    )


@asynccontextmanager
async def _serve_metrics(
    settings: Settings, generations: GenerationLifecycle
) -> AsyncGenerator[str | None]:
    """Serve metrics and probes over HTTP if configured; yields the address."""
    if settings.metrics is None:
        yield None
        return
    register_devices()
    server = listen_for_metrics(settings.metrics, is_ready=lambda: not generations.unready_reason)
    server.start()
    try:
        yield server.address
    finally:
        await server.stop()


async def _refuse_new_work(service: Service) -> None:
    """Report NOT_SERVING first, so that load balancers turn away before calls are refused."""
    await service.health.drain()
    service.generations.draining = True
    for supervisor in service.supervisors:
        supervisor.drain()
    if service.registered is not None:
        with contextlib.suppress(StorageError):  # others find out when the lease has ended
            await service.registered.tell()


async def _wait_idle(service: Service, seconds: float) -> None:
    """Wait until nothing runs, at most that long."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            for supervisor in service.supervisors:
                await supervisor.idle.wait()


def _start_tasks(coroutines: Sequence[Coroutine[None, None, None]]) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(coroutine) for coroutine in coroutines]


async def _stop_tasks(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(outcome, Exception):
            _log.error("background_task_failed", exc_info=outcome)


async def _stop_engines(supervised: Mapping[EngineSupervisor, asyncio.Task[None]]) -> None:
    """Stop the engines; one whose start does not end is abandoned: its thread may load a model for minutes."""
    if not supervised:  # a gateway has none
        return
    for task in supervised.values():
        task.cancel()
    _, abandoned = await asyncio.wait(supervised.values(), timeout=_GRACE_SECONDS)
    for supervisor, task in supervised.items():
        if task in abandoned:
            _log.warning("engine_abandoned", extra={"engine": supervisor.name})
    await asyncio.gather(
        *(supervisor.stop() for supervisor, task in supervised.items() if task not in abandoned)
    )


def _exit_at_once() -> NoReturn:
    """End the process; everything durable is closed.

    Python would take seconds to dismantle what engines have loaded, and wait for the threads of those whose start was
    abandoned.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _require_loopback(settings: Settings) -> None:
    """Refuse addresses that other machines reach, unless calls are encrypted and callers prove who they are."""
    if settings.allow_insecure:
        return
    answers = settings.role != "worker"
    for key, address in (("listen", settings.listen), ("http", settings.http)) if answers else ():
        if address is not None and not is_local(address) and (missing := _find_missing(settings)):
            msg = (
                f"{key}: {address} can be reached by other machines, and this server has {missing}; use "
                "127.0.0.1, or set allow_insecure: true (--allow-insecure)"
            )
            raise ConfigurationError(msg)
    if settings.metrics is not None and not is_local(settings.metrics):
        msg = (
            f"metrics: {settings.metrics} can be reached by other machines, and has neither TLS nor authentication; "
            "use 127.0.0.1, or set allow_insecure: true (--allow-insecure)"
        )
        raise ConfigurationError(msg)
    scaler = settings.scaler_listen
    if scaler is not None and not is_local(scaler) and not _shows_certificates(settings):
        msg = (
            f"scaler_listen: {scaler} can be reached by other machines, and who calls there proves nothing; use "
            "127.0.0.1, set tls.client_certificates: required, or set allow_insecure: true (--allow-insecure)"
        )
        raise ConfigurationError(msg)


def _shows_certificates(settings: Settings) -> bool:
    return settings.tls is not None and settings.tls.client_certificates == "required"


def _find_missing(settings: Settings) -> str:
    """What the addresses of gRPC and HTTP lack to be reached by other machines; empty if nothing."""
    knows_callers = settings.auth is not None or _shows_certificates(settings)
    if settings.tls is None:
        return "no TLS" if knows_callers else "neither TLS nor authentication"
    return "" if knows_callers else "no authentication"
