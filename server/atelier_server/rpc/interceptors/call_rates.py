"""Limits how many calls a tenant makes in a second; what goes over is told when to try again."""

from __future__ import annotations

import time
from dataclasses import dataclass
from types import TracebackType

from atelier_server.config.security_settings import TenantLimits
from atelier_server.errors import TenantQuotaError
from atelier_server.rpc.interceptors.authenticate import OPEN_SERVICES
from atelier_server.rpc.interceptors.chain import Call, Context

_MAX_TENANTS = 10_000
_UNLIMITED = frozenset({"CancelGeneration"})
"""Who makes less work is not kept from it."""


@dataclass(slots=True)
class _Allowance:
    """Calls that a tenant may make now; it grows by the rate, up to those of a second."""

    calls: float
    time: float


class CallRates:
    """An interceptor: counts the calls of each tenant that has a limit."""

    def __init__(self, limits: TenantLimits) -> None:
        """Allow each tenant as many calls as these say."""
        self._limits = limits
        self._allowances: dict[str, _Allowance] = {}

    def __call__(self, call: Call, context: Context) -> _CountedCall:  # noqa: ARG002 (an interceptor is given both)
        """Count one call."""
        return _CountedCall(self, call)

    def take(self, tenant: str) -> None:
        """Count a call of the tenant.

        Raises:
            TenantQuotaError: it has made as many as it may.
        """
        rate = self._limits.find(tenant).requests_per_second
        if rate is None:
            return
        now, most = time.monotonic(), max(1.0, rate)
        allowance = self._allowances.get(tenant)
        if allowance is None:
            if len(self._allowances) >= _MAX_TENANTS:  # names come from tokens, too
                self._allowances.clear()
            allowance = self._allowances[tenant] = _Allowance(most, now)
        allowance.calls = min(most, allowance.calls + (now - allowance.time) * rate)
        allowance.time = now
        if allowance.calls < 1:
            wait = (1 - allowance.calls) / rate
            raise TenantQuotaError(
                tenant,
                f"tenant {tenant!r} may make {rate:g} calls a second",
                retry_after_seconds=wait,
            )
        allowance.calls -= 1


class _CountedCall:
    """Passes the call on, if there is one left."""

    __slots__ = ("_call", "_rates")

    def __init__(self, rates: CallRates, call: Call) -> None:
        self._rates, self._call = rates, call

    async def __aenter__(self) -> Call:
        call = self._call
        if call.service not in OPEN_SERVICES and call.method not in _UNLIMITED:
            self._rates.take(call.caller.tenant)
        return call

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass
