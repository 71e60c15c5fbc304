"""Decides a request: which engine executes it, and exactly which task that engine gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_server.admission.inputs import InputLoader
from atelier_server.admission.resolve import Resolver
from atelier_server.admission.router import Resolve, Route, Router
from atelier_server.engines.status import EngineStatus
from atelier_server.ids import random_seed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decider:
    """Decides at submission, and again only when a fallback engine takes over; the store keeps the decision."""

    inputs: InputLoader
    router: Router
    resolver: Resolver

    async def decide(
        self,
        request: GenerateRequest,
        caller: str,
        generation_id: str,
        *,
        admit: Callable[[EngineStatus], Awaitable[None]] | None = None,
    ) -> Route:
        """Select the engine and decide the task.

        `admit` may refuse the selected engine before anything else counts: until it is ready its limits are guesses.

        Raises:
            ServiceError: the request is invalid, no engine can do it, or what `admit` raises.
        """
        resolve = await self._prepare(request, caller, generation_id)
        engine = self.router.select(request.engine, resolve)
        if admit is not None:
            await admit(engine)
        return self.router.route(engine, resolve)

    async def decide_for_engine(
        self, engine: str, request: GenerateRequest, caller: str, generation_id: str
    ) -> Route:
        """Decide the task for an engine that is selected already.

        Raises:
            ServiceError: the request is invalid, or this engine cannot do it.
        """
        resolve = await self._prepare(request, caller, generation_id)
        return self.router.route(self.router.engines.require(engine), resolve)

    async def decide_fallback(
        self, request: GenerateRequest, caller: str, generation_id: str, tried: Sequence[str]
    ) -> Route | None:
        """Decide the task for the first fallback that is ready and can do it; None if there is none.

        Raises:
            ServiceError: an input image is missing or unusable.
        """
        resolve = await self._prepare(request, caller, generation_id)
        return next(self.router.find_fallbacks(tried, resolve), None)

    async def _prepare(self, request: GenerateRequest, caller: str, generation_id: str) -> Resolve:
        images = await self.inputs.load(request, caller)
        seed = random_seed(generation_id)
        return lambda capabilities: self.resolver.resolve(
            request, capabilities, images, random_seed=seed
        )
