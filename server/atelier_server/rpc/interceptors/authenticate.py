"""Lets nobody call who has not proved who they are, and no method that the table does not allow them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from types import TracebackType

from atelier_server.auth.authenticator import Authenticator
from atelier_server.auth.caller import Caller
from atelier_server.config.security_settings import SCOPES, Scope
from atelier_server.errors import PermissionDeniedError
from atelier_server.rpc.interceptors.chain import Call, Context, set_current

_HEADER = "authorization"
_ANY: frozenset[Scope] = SCOPES
_SERVICE = "atelier.v1.GenerationService"
OPEN_SERVICES = frozenset({"grpc.health.v1.Health"})
"""Probes send no keys."""
REFLECTION_SERVICES = frozenset(
    {"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
)
SCOPES_OF_METHODS: Mapping[tuple[str, str], frozenset[Scope]] = {
    (_SERVICE, "Generate"): frozenset({"generate"}),
    (_SERVICE, "PlanGeneration"): frozenset({"generate"}),
    (_SERVICE, "UploadArtifact"): frozenset({"generate"}),
    (_SERVICE, "GetGeneration"): frozenset({"read"}),
    (_SERVICE, "ListGenerations"): frozenset({"read"}),
    (_SERVICE, "DownloadArtifact"): frozenset({"read"}),
    (_SERVICE, "CancelGeneration"): frozenset({"cancel"}),
    (_SERVICE, "PauseEngine"): frozenset({"admin"}),
    (_SERVICE, "ResumeEngine"): frozenset({"admin"}),
    (_SERVICE, "ClearQueue"): frozenset({"admin"}),
    # The service asks for the one that the request needs.
    (_SERVICE, "StreamProgress"): frozenset({"generate", "read"}),
    **{(_SERVICE, method): _ANY for method in ("GetCapabilities", "Health")},
    **{(service, "ServerReflectionInfo"): _ANY for service in REFLECTION_SERVICES},
}
"""By service and method, the scopes of which a caller needs one. What is not in it nobody may call."""


@dataclass(frozen=True, slots=True, eq=False)
class Authentication:
    """What all calls are checked with."""

    authenticator: Authenticator
    open_services: frozenset[str]
    """Services that everybody may call."""

    def __call__(self, call: Call, context: Context) -> _CheckedCall:
        """Check one call."""
        return _CheckedCall(self, call, context)


class _CheckedCall:
    """Passes the call on with its caller."""

    __slots__ = ("_authentication", "_call", "_context")

    def __init__(self, authentication: Authentication, call: Call, context: Context) -> None:
        self._authentication, self._call, self._context = authentication, call, context

    async def __aenter__(self) -> Call:
        call = self._call
        if call.service in self._authentication.open_services:
            return call
        call = replace(call, caller=await self._identify())
        set_current(call)  # also where the call ends here
        allowed = SCOPES_OF_METHODS.get((call.service, call.method))
        if allowed is None:
            raise PermissionDeniedError([])
        call.caller.require(*sorted(allowed))
        return call

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass

    async def _identify(self) -> Caller:
        metadata = self._context.invocation_metadata() or ()
        given = [
            value if isinstance(value, str) else value.decode(errors="replace")
            for key, value in metadata
            if key == _HEADER
        ]
        return await self._authentication.authenticator.identify(given, self._read_names)

    def _read_names(self) -> Iterable[str]:
        """Names in the verified certificate of the connection; none without one."""
        found = self._context.auth_context().get("x509_subject_alternative_name", ())
        return [name.decode(errors="replace") for name in found]
