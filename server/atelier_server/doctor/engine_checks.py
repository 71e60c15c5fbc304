"""Checks every configured engine: its packages, its weights, its keys, and whether its service can be reached."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping

from pydantic import BaseModel, SecretStr

from atelier_engines import registry
from atelier_engines.engine import Engine, EngineType
from atelier_engines.errors import EngineError
from atelier_server.config.engine_settings import EngineSettings
from atelier_server.doctor.devices import INSTALL_LOCAL
from atelier_server.doctor.findings import Finding, failure, ok
from atelier_server.doctor.installation import missing_local_packages
from atelier_server.engines.creation import create_engine

_TIMEOUT_SECONDS = 20.0


async def check_engines(engines: Mapping[str, EngineSettings], config: str) -> list[Finding]:
    """Findings about every engine, in order; remote services are asked at the same time.

    Nothing is loaded, and nothing is asked for that may cost money. `config` is the option that names the
    configuration, for remedies.
    """
    groups = await asyncio.gather(
        *(_check_engine(name, engine, config) for name, engine in engines.items())
    )
    return [finding for group in groups for finding in group]


def has_local_engines(engines: Iterable[EngineSettings]) -> bool:
    """Whether one of them has weights on this machine."""
    return any(registry.load(engine.type).weights is not None for engine in engines)


async def _check_engine(name: str, engine: EngineSettings, config: str) -> list[Finding]:
    subject = f"engine {name}"
    kind = registry.load(engine.type)
    if kind.weights is not None:
        return await asyncio.to_thread(_check_weights, name, kind, engine, config)
    keys = _count_keys(engine.config)
    said = f"{engine.type}, {keys} key{'s' * (keys != 1)} set" if keys else engine.type
    if not kind.asks_on_start:
        return [ok(subject, f"{said}; not started by this command")]
    return [await _reach(subject, said, create_engine(engine))]


def _check_weights(
    name: str, kind: EngineType[BaseModel], engine: EngineSettings, config: str
) -> list[Finding]:
    """Whether all weights are on this machine."""
    subject = f"engine {name}"
    missing = missing_local_packages()
    if missing:
        text = f"{engine.type} needs {', '.join(missing)}"
        return [failure(subject, text, INSTALL_LOCAL)]
    problems = kind.find_problems(engine.config) if kind.find_problems else ()
    findings = [failure(subject, problem.text, problem.remedy) for problem in problems]
    for entry in kind.weights(engine.config) if kind.weights else ():
        try:
            found = entry.find(False)  # noqa: FBT003 - no download
        except EngineError as error:
            pull = " ".join(["atelier models pull", *filter(None, [config]), name])
            findings.append(failure(subject, f"{entry.key}: {error}", pull))
        else:
            size = f"{found.size_bytes / 1e6:.0f} MB"
            findings.append(ok(subject, f"{engine.type}, {entry.key} {entry.source}, {size}"))
    return findings or [ok(subject, engine.type)]


async def _reach(subject: str, said: str, engine: Engine) -> Finding:
    """Whether the service of an engine answers, and takes the key."""
    begun = time.monotonic()
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            await engine.start()
            await engine.check()
    except TimeoutError:
        text = f"{said}; no answer within {_TIMEOUT_SECONDS:.0f} s"
        return failure(subject, text, "check its address, and the network from here to there")
    except EngineError as error:
        return failure(
            subject, f"{said}; {error}", "check its address and its key in the configuration"
        )
    finally:
        await engine.stop()
    return ok(subject, f"{said}; answered in {time.monotonic() - begun:.1f} s")


def _count_keys(config: BaseModel) -> int:
    """How many secrets the settings of an engine have."""
    values = [getattr(config, name) for name in type(config).model_fields]
    return sum(isinstance(value, SecretStr) and bool(value.get_secret_value()) for value in values)
