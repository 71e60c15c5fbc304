"""Decides everything that a request left open: from the contract's task to the engine's."""

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
    """What the engine is to do."""
    parameters: tuple[Parameter, ...]
    """How each of its values came about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """Decides by the engine's capabilities, the configured styles and the weights of LoRAs."""

    styles: Mapping[str, StyleSettings]
    """By id."""
    loras: LoraSettings
    """Weights of those whose weight is left open."""

    def resolve(
        self,
        request: GenerateRequest,
        can: Capabilities,
        pictures: Mapping[str, Pixels],
        *,
        drawn_seed: int,
    ) -> Resolved:
        """Fill in the defaults of style and engine, and bring what may be clamped within its limits.

        `pictures` holds the decoded pictures by the path of their field: init_image, mask,
        controls[0]. `drawn_seed` is used when the request names none. What the engine can't do
        stays in the task, for `atelier_engines.validation` to find.

        Raises:
            InvalidRequestError: no such style; or `strict` is set and something would be clamped or ignored.
            UnsupportedError: the engine makes no such things at all.
        """
        ledger = ParameterRecorder()
        options = parse_options(request)
        kind = request.WhichOneof("task")
        task: Task
        match kind:
            case "image":
                if can.image is None:
                    raise UnsupportedError("image", "this engine makes no pictures")
                task = resolve_image_task(
                    request.image,
                    can.image,
                    ledger,
                    styles=self.styles,
                    loras=self.loras,
                    pictures=pictures,
                    options=options,
                    drawn_seed=drawn_seed,
                )
            case "audio":
                if can.audio is None:
                    raise UnsupportedError("audio", "this engine makes no sound")
                task = resolve_audio_task(
                    request.audio, can.audio, ledger, options=options, drawn_seed=drawn_seed
                )
            case None:
                raise InvalidRequestError([Violation("task", "give an image or an audio task")])
            case _:
                assert_never(kind)
        if request.strict:
            ledger.reject_changes(kind)
        return Resolved(task=task, parameters=tuple(ledger.parameters))
