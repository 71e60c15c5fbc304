"""The fake service of bfl, one for all tests."""

from __future__ import annotations

from tests.vendors.bfl.stand_in import stand_in
from tests.vendors.calls import service_fixtures

running, vendor = service_fixtures(stand_in)
