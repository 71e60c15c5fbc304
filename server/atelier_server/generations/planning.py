"""Describes what would become of a request if it was submitted now."""

from __future__ import annotations

import time

from atelier.v1.generation_service_pb2 import GenerateRequest, PlanGenerationResponse
from atelier_server.admission.cost import estimate_cost
from atelier_server.admission.gates import Applicant, find_rejection
from atelier_server.admission.route import Route
from atelier_server.errors import ServiceError, failure_from_error
from atelier_server.estimates.cost_units import count_cost_units
from atelier_server.estimates.service_times import Work


async def describe_plan(
    route: Route,
    applicant: Applicant,
    request: GenerateRequest,
    quota_rejection: ServiceError | None,
) -> PlanGenerationResponse:
    """The decision with its times and its cost, where they are known, and the rejection if there would be one."""
    engine, work = route.engine, Work.of(route.resolved.task)
    plan = PlanGenerationResponse(
        engine=engine.name,
        parameters=route.resolved.parameters,
        selection=route.selection,
        cost_units=count_cost_units(route.resolved.task),
    )
    wait = applicant.estimate_wait()
    if wait.expected is not None:
        plan.estimated_wait.FromMicroseconds(int(wait.expected * 1e6))
    service = engine.times.estimate(work, time.monotonic())
    if service.expected is not None:
        plan.estimated_duration.FromMicroseconds(int(service.expected * 1e6))
    cost = estimate_cost(engine, route.resolved.task, service.expected)
    if cost is not None:
        plan.cost.CopyFrom(cost)
    seconds_left = request.timeout.ToMicroseconds() / 1e6 if request.HasField("timeout") else None
    rejection = await find_rejection(applicant, work, seconds_left) or quota_rejection
    plan.accepted = rejection is None
    if rejection is not None:
        plan.rejection.CopyFrom(failure_from_error(rejection))
    return plan
