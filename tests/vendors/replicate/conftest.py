"""The fake service of Replicate, one for all tests."""

from __future__ import annotations

from tests.vendors.calls import service_fixtures
from tests.vendors.replicate.stand_in import stand_in

running, vendor = service_fixtures(stand_in)
