"""Decides everything that a request leaves open: from the contract's task to the engine's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from atelier.v1.generation_pb2 import Parameter
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.capabilities import Capabilities
from atelier_engines.errors import UnsupportedError
from atelier_engines.media import Pixels
from atelier_engines.task import Task
from atelier_server.admission.audio_task import resolve_audio_task
from atelier_server.admission.image_task import resolve_image_task
from atelier_server.admission.options import parse_options
from atelier_server.admission.parameters import ParameterRecorder
from atelier_server.config.settings import LoraSettings, StyleSettings
from atelier_server.errors import InvalidRequestError, Violation


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A task in which everything is decided."""

    task: Task
    """The task for the engine."""
    parameters: tuple[Parameter, ...]
    """How each of its values was decided, for the receipt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Decides by the engine's capabilities, the configured styles and the default weights of LoRAs."""

    styles: Mapping[str, StyleSettings]
    """Styles by id."""
    loras: LoraSettings
    """Weights for LoRAs that the request gives no weight."""

    def resolve(
        self,
        request: GenerateRequest,
        capabilities: Capabilities,
        images: Mapping[str, Pixels],
        *,
        random_seed: int,
    ) -> Resolved:
        """Fill in the defaults of style and engine, and clamp what may be clamped.

        `images` holds the decoded images by the path of their field in the task: init_image, mask,
        controls[0].image. `random_seed` is used when the request has no seed. What the engine does not
        support stays in the task, for `atelier_engines.validation` to reject.

        Raises:
            InvalidRequestError: no such style; or `strict` is set and a value would be clamped or ignored.
            UnsupportedError: the engine does not do tasks of this kind.
        """
        recorder = ParameterRecorder()
        options = parse_options(request)
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
                    random_seed=random_seed,
                )
            case "audio":
                if capabilities.audio is None:
                    raise UnsupportedError("audio", "this engine does not support audio tasks")
                task = resolve_audio_task(
                    request.audio,
                    capabilities.audio,
                    recorder,
                    options=options,
                    random_seed=random_seed,
                )
            case None:
                raise InvalidRequestError([Violation("task", "give an image or an audio task")])
            case _:
                assert_never(kind)
        if request.strict:
            recorder.reject_changes(kind)
        return Resolved(task=task, parameters=tuple(recorder.parameters))
