"""Counts what renting costs, against a cap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from atelier_engines.errors import EngineQuotaError
from atelier_engines.vendors.vastai.states import Rental

_HOUR = 3600.0


@dataclass(slots=True)
class Purse:
    """US dollars spent since it was made, those of what is rented now included."""

    cap: float
    """Most that may be spent."""
    clock: Callable[[], float]
    """Seconds."""
    _open: dict[int, Rental] = field(default_factory=dict)
    _closed: float = 0.0

    def open(self, rental: Rental) -> None:
        """From its beginning on the rental costs."""
        self._open[rental.instance_id] = rental

    def close(self, rental: Rental) -> None:
        """From now on the rental costs nothing more."""
        if self._open.pop(rental.instance_id, None) is not None:
            self._closed += self._cost(rental)

    @property
    def spent(self) -> float:
        """Up to now."""
        return self._closed + sum(map(self._cost, self._open.values()))

    def require(self) -> None:
        """Return if there is money left.

        Raises:
            EngineQuotaError: the cap is reached.
        """
        if self.spent >= self.cap:
            raise EngineQuotaError(
                f"the {self.cap:g} US dollars that may be spent on rented machines are spent; "
                "raise spending_cap to go on"
            )

    def _cost(self, rental: Rental) -> float:
        return max(0.0, self.clock() - rental.since) / _HOUR * rental.price_per_hour
