"""Counts what rented instances cost, and enforces a cap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from atelier_engines.errors import EngineQuotaError
from atelier_engines.vendors.vastai.states import Rental

_HOUR_SECONDS = 3600.0


@dataclass(slots=True)
class SpendingCap:
    """US dollars spent on rent since this object was created, current rentals included."""

    cap: float
    """Maximum spending in US dollars."""
    clock: Callable[[], float]
    """Time in seconds since any moment; monotonic."""
    _rentals: dict[int, Rental] = field(default_factory=dict)
    _spent_on_ended: float = 0.0

    def start_rental(self, rental: Rental) -> None:
        """Count the rental from its start time on."""
        self._rentals[rental.instance_id] = rental

    def end_rental(self, rental: Rental) -> None:
        """Stop counting the rental now."""
        if self._rentals.pop(rental.instance_id, None) is not None:
            self._spent_on_ended += self._cost(rental)

    @property
    def spent(self) -> float:
        """US dollars spent until now."""
        return self._spent_on_ended + sum(map(self._cost, self._rentals.values()))

    def require_budget(self) -> None:
        """Return if the cap is not reached.

        Raises:
            EngineQuotaError: the cap is reached.
        """
        if self.spent >= self.cap:
            raise EngineQuotaError(
                f"spending cap of {self.cap:g} US dollars for rented instances reached; "
                "raise spending_cap"
            )

    def _cost(self, rental: Rental) -> float:
        return max(0.0, self.clock() - rental.since) / _HOUR_SECONDS * rental.price_per_hour
