"""At the start of an engine: the builds that it runs, and what runs instead where one is absent or refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from atelier_engines.diffusion.builds.network_builder import NetworkBuilder
from atelier_engines.diffusion.networks import Network
from atelier_engines.diffusion.runtimes_config import ComponentName, OnMissingBuild
from atelier_engines.errors import EngineError, EngineUnavailableError
from atelier_engines.local.builds.manifest import BuildRefusedError
from atelier_engines.local.builds.store import HeldBuild

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedBuilds:
    """Builds that are there and valid, and why others are not."""

    builder: NetworkBuilder
    """What they were built by."""
    held: Mapping[str, HeldBuild]
    """By the digest of their key."""
    missing: Mapping[ComponentName, str]
    """Why a component cannot be run as configured; torch runs it."""

    def find(self, network: Network) -> HeldBuild:
        """The build of a network whose component is not missing."""
        return self.held[self.builder.identify(network).digest]


def prepare(
    builder: NetworkBuilder, networks: Iterable[Network], on_missing: OnMissingBuild
) -> PreparedBuilds:
    """Find the builds of all networks, or do what is configured for those that are not there.

    Raises:
        EngineUnavailableError: one is absent or refused, and that is configured to fail.
        EngineError: one cannot be built, and nothing is to stand in for it.
        OSError: the directory cannot be read or written to, and nothing is to stand in for its builds.
    """
    held: dict[str, HeldBuild] = {}
    missing: dict[ComponentName, str] = {}
    for network in networks:
        if network.component in missing:
            continue
        found = _find_or_say_why(builder, network, on_missing)
        if isinstance(found, HeldBuild):
            held[found.build.manifest.key.digest] = found
        elif on_missing == "fail":
            raise EngineUnavailableError(
                f"{found}; run `atelier build`, or set on_missing_build to fallback or build"
            )
        else:
            missing[network.component] = found
    log_fallbacks(missing)
    return PreparedBuilds(builder=builder, held=held, missing=missing)


def _find_or_say_why(
    builder: NetworkBuilder, network: Network, on_missing: OnMissingBuild
) -> HeldBuild | str:
    """The build of a network; why there is none where something else is to stand in for it."""
    try:
        return _find(builder, network, on_missing)
    except (EngineError, OSError) as error:
        if on_missing != "build_or_fallback":
            raise
        return str(error)


def log_fallbacks(missing: Mapping[ComponentName, str]) -> None:
    """Log which components torch runs in place of what is configured, and why."""
    for component, reason in missing.items():
        _log.warning(
            "runtime_fallback_used",
            extra={
                "component": component,
                "runtime": "torch",
                "reason": reason,
                "hint": "run `atelier build`, and restart the server",
            },
        )


def _find(builder: NetworkBuilder, network: Network, on_missing: OnMissingBuild) -> HeldBuild | str:
    """The build of a network; why there is none where it is not to be built now."""
    key = builder.identify(network)
    try:
        held = builder.store.hold(key)
    except BuildRefusedError as error:
        _log.warning("build_refused", extra={"network": network.name, "error": str(error)})
        problem = f"the build of the {network.name} is refused: {error}"
    else:
        if held is not None:
            return held
        problem = f"the {network.name} is not built for {builder.runtime}"
    if on_missing not in ("build", "build_or_fallback"):
        return problem
    return builder.build(network, key, partial(_log_step, network.name))


def _log_step(network: str, step: str) -> None:
    _log.info("build_step", extra={"network": network, "step": step})
