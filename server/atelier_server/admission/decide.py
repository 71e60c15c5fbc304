"""Decides a request: which engine executes it, and exactly which task that engine gets."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import assert_never

from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import UnsupportedError
from atelier_engines.media import Pixels
from atelier_engines.task import Task
from atelier_server.admission.audio_task import resolve_audio_task
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.inputs import InputLoader
from atelier_server.admission.options import parse_options
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.admission.router import Resolve, Resolved, Route, Router
from atelier_server.config.settings import LoraSettings, StyleSettings
from atelier_server.engines.status import EngineStatus
from atelier_server.errors import InvalidRequestError, Violation
from atelier_server.ids import random_seed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decider:
    """Decides at submission, and again only when a fallback engine takes over; the store keeps the decision."""

    inputs: InputLoader
    """Reads the input images."""
    router: Router
    """Selects the engine."""
    styles: Mapping[str, StyleSettings]
    """Styles by id."""
    loras: LoraSettings
    """Weights for LoRAs that the request gives no weight."""

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
        return lambda capabilities: self._resolve(request, capabilities, images, seed)

    def _resolve(
        self,
        request: GenerateRequest,
        capabilities: Capabilities,
        images: Mapping[str, Pixels],
        seed: int,
    ) -> Resolved:
        """Fill in the defaults of style and engine, and clamp what may be clamped.

        `seed` is used when the request has none. What the engine does not support stays in the task, for
        `atelier_engines.validation` to reject.

        Raises:
            InvalidRequestError: no such style; or `strict` is set and a value would be clamped or ignored.
            UnsupportedError: the engine does not do tasks of this kind.
        """
        recorder = ParameterRecorder()
        options = parse_options(request) if request.HasField("options") else {}
        kind = request.WhichOneof("task")
        task: Task
        match kind:
            case "image":
                if capabilities.image is None:
                    raise UnsupportedError("image", "this engine does not support image tasks")
                task = resolve_image_task(
                    request.image,
                    capabilities.image,
                    recorder,
                    styles=self.styles,
                    loras=self.loras,
                    images=images,
                    options=options,
                    random_seed=seed,
                )
            case "audio":
                if capabilities.audio is None:
                    raise UnsupportedError("audio", "this engine does not support audio tasks")
                task = resolve_audio_task(
                    request.audio,
                    capabilities.audio,
                    recorder,
                    options=options,
                    random_seed=seed,
                )
            case None:
                raise InvalidRequestError([Violation("task", "give an image or an audio task")])
            case _:
                assert_never(kind)
        if request.strict:
            recorder.reject_changes(kind)
        return Resolved(task=task, parameters=tuple(recorder.parameters))
