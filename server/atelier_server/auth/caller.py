"""Who makes a call, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass

from atelier_server.config.security_settings import SCOPES, Scope
from atelier_server.errors import PermissionDeniedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a call, and what they may do."""

    tenant: str
    """Owner of everything that the call creates; it sees nothing of other tenants."""
    subject: str
    """The user, service or key within the tenant."""
    scopes: frozenset[Scope]
    """What they may do."""

    def require(self, *scopes: Scope) -> None:
        """Return if the caller has one of the scopes.

        Raises:
            PermissionDeniedError: they have none of them.
        """
        if self.scopes.isdisjoint(scopes):
            raise PermissionDeniedError(scopes)


ANONYMOUS = Caller(tenant="anonymous", subject="anonymous", scopes=SCOPES)
"""Every caller of a server without `auth`."""
