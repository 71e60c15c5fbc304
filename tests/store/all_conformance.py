"""All that every store does: the suites of this folder as one."""

from __future__ import annotations

from tests.store.conformance import StoreConformance
from tests.store.event_conformance import EventConformance
from tests.store.fairness_conformance import FairnessConformance
from tests.store.isolation_conformance import IsolationConformance
from tests.store.pause_conformance import PauseConformance
from tests.store.priority_conformance import PriorityConformance
from tests.store.queue_conformance import QueueConformance
from tests.store.quota_conformance import QuotaConformance
from tests.store.recovery_conformance import RecoveryConformance
from tests.store.request_id_conformance import RequestIdConformance
from tests.store.running_limit_conformance import RunningLimitConformance
from tests.store.work_conformance import WorkConformance


class AllConformance(
    StoreConformance,
    RequestIdConformance,
    IsolationConformance,
    PauseConformance,
    QueueConformance,
    QuotaConformance,
    FairnessConformance,
    RunningLimitConformance,
    PriorityConformance,
    EventConformance,
    RecoveryConformance,
    WorkConformance,
):
    """See StoreConformance; its subclasses open the stores."""
