"""Decides a request: which engine executes it, and exactly which task that engine gets."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import assert_never

from google.protobuf.struct_pb2 import Value

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_pb2 import (
    DISPOSITION_DEFAULTED,
    Parameter,
)
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import UnsupportedError
from atelier_engines.media import Input, Pixels, Samples
from atelier_engines.task import Task
from atelier_server.admission.audio_task import resolve_audio_task
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.inputs import InputLoader
from atelier_server.admission.media_sources import INIT_AUDIO, list_media_sources
from atelier_server.admission.options import parse_options
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.admission.prompt_rules import find_matches
from atelier_server.admission.route import Resolve, Resolved, Route
from atelier_server.admission.router import Router
from atelier_server.config.routing_rules import RoutingRule
from atelier_server.config.settings import LoraSettings, StyleSettings
from atelier_server.engines.decided_tasks import DecidedTasks
from atelier_server.engines.status import EngineStatus
from atelier_server.errors import (
    BudgetExceededError,
    InvalidRequestError,
    NotReadyError,
    Violation,
)
from atelier_server.store.priorities import is_batch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decider:
    """Decides at submission, and again only when a fallback engine takes over; the store keeps the decision."""

    inputs: InputLoader
    """Reads the input images and audio."""
    router: Router
    """Selects the engine."""
    styles: Mapping[str, StyleSettings]
    """Styles by id."""
    loras: LoraSettings
    """Weights for LoRAs that the request gives no weight."""
    rules: Sequence[RoutingRule] = ()
    """Rules that choose an engine or a style by the prompt."""
    decided: DecidedTasks = field(default_factory=DecidedTasks)
    """What was decided a moment ago, for the worker that executes it."""

    async def decide(
        self,
        request: GenerateRequest,
        caller: str,
        generation_id: str,
        *,
        admit: Callable[[EngineStatus], Awaitable[None]] | None = None,
    ) -> Route:
        """Select the engine, or a fallback if it cannot take the task now, and decide the task.

        `admit` may refuse the selected engine before anything else counts: until it is ready its limits are guesses.

        Raises:
            ServiceError: the request is invalid, no engine can do it, or what `admit` raises.
        """
        resolve = await self._prepare(request, caller, generation_id)
        matches = find_matches(self.rules, request)
        selected = self.router.select(request.engine, request.WhichOneof("task"), resolve, matches)
        substitute = self.router.find_substitute(selected.engine, resolve)
        if admit is not None:
            try:
                await admit(selected.engine if substitute is None else substitute.engine)
            except (NotReadyError, BudgetExceededError) as error:
                self.router.explain_fallbacks(error, selected.engine, resolve)
                raise
        return substitute or self.router.route(selected.engine, resolve, selected.selection)

    def hand_over(self, generation_id: str, encoded: bytes, route: Route) -> None:
        """Keep the decided task, which has no input media, for the worker that executes it."""
        task, capabilities = route.resolved.task, route.engine.capabilities
        self.decided.add(generation_id, encoded, task, capabilities)

    async def decide_for_engine(
        self, engine: str, request: GenerateRequest, caller: str, generation_id: str
    ) -> Route:
        """Decide the task for an engine that is selected already.

        Raises:
            ServiceError: the request is invalid, or this engine cannot do it.
        """
        resolve = await self._prepare(request, caller, generation_id)
        return self.router.route(self.router.engines.require(engine), resolve)

    async def decide_substitute(
        self,
        engine: EngineStatus,
        request: GenerateRequest,
        caller: str,
        generation_id: str,
        tried: Sequence[str],
    ) -> Route | None:
        """Decide the task for a fallback, if the engine cannot take what waits for it; as `Router.find_substitute`.

        Raises:
            ServiceError: an input image or audio is missing or unusable.
        """
        resolve = await self._prepare(request, caller, generation_id)
        return self.router.find_substitute(engine, resolve, tried)

    async def decide_fallback(
        self, request: GenerateRequest, caller: str, generation_id: str, tried: Sequence[str]
    ) -> Route | None:
        """Decide the task for the first fallback that is ready and can do it; None if there is none.

        Raises:
            ServiceError: an input image or audio is missing or unusable.
        """
        resolve = await self._prepare(request, caller, generation_id)
        return next(self.router.find_fallbacks(tried, resolve), None)

    def load_inputs(
        self, request: GenerateRequest, caller: str
    ) -> AbstractAsyncContextManager[Mapping[str, Input]]:
        """Images and audio that the stored request names, as `InputLoader.load` yields them.

        Raises:
            InvalidRequestError: one is of another format, or is damaged.
            NotFoundError: an artifact is unknown.
        """
        sources = list_media_sources(request)
        return self.inputs.load(sources, request, caller) if sources else nullcontext({})

    async def _prepare(self, request: GenerateRequest, caller: str, generation_id: str) -> Resolve:
        sources = list_media_sources(request)
        inputs = await self.inputs.outline(sources, request, caller) if sources else {}
        seed = _random_seed(generation_id)
        return lambda capabilities: self._resolve(request, capabilities, inputs, seed)

    def _resolve(
        self,
        request: GenerateRequest,
        capabilities: Capabilities,
        inputs: Mapping[str, Input],
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
        finishing = None
        match kind:
            case "image":
                if capabilities.image is None:
                    raise UnsupportedError("image", "this engine does not support image tasks")
                task = resolve_image_task(
                    self._add_style(request, recorder),
                    capabilities.image,
                    recorder,
                    styles=self.styles,
                    loras=self.loras,
                    images={path: one for path, one in inputs.items() if isinstance(one, Pixels)},
                    options=options,
                    random_seed=seed,
                )
            case "audio":
                if capabilities.audio is None:
                    raise UnsupportedError("audio", "this engine does not support audio tasks")
                audio = inputs.get(INIT_AUDIO)
                task, finishing = resolve_audio_task(
                    request.audio,
                    capabilities.audio,
                    recorder,
                    init_audio=audio if isinstance(audio, Samples) else None,
                    options=options,
                    random_seed=seed,
                )
            case None:
                raise InvalidRequestError([Violation("task", "give an image or an audio task")])
            case _:
                assert_never(kind)
        if request.strict:
            recorder.reject_changes(kind, request.strict_except)
        if is_batch(request):
            task = replace(task, batch=True)
        return Resolved(task=task, parameters=tuple(recorder.parameters), finishing=finishing)

    def _add_style(self, request: GenerateRequest, recorder: ParameterRecorder) -> pb.ImageTask:
        """The task of the request, with the style of the first rule that has one, if the request names none."""
        matches = () if request.image.style else find_matches(self.rules, request)
        match = next((one for one in matches if one.rule.style is not None), None)
        if match is None or match.rule.style is None:
            return request.image
        task = pb.ImageTask()
        task.CopyFrom(request.image)
        task.style = match.rule.style
        recorder.parameters.append(
            Parameter(
                name="style",
                value=Value(string_value=task.style),
                disposition=DISPOSITION_DEFAULTED,
                explanation=match.explanation,
            )
        )
        return task


def _random_seed(generation_id: str) -> int:
    """The seed of a generation whose request sets none: 0 to 2**32 - 1, short enough to be typed.

    It follows from the id, so that every attempt, on any engine, has the same.
    """
    return int.from_bytes(hashlib.sha256(generation_id.encode()).digest()[:4])
