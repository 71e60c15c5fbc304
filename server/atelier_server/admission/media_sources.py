"""Where the images and the audio of a request's task are."""

from __future__ import annotations

from collections.abc import Mapping

from atelier.v1 import task_pb2 as pb
from atelier.v1.generation_service_pb2 import GenerateRequest

INIT_AUDIO = "init_audio"
"""Path of the one field of audio."""


def list_media_sources(request: GenerateRequest) -> Mapping[str, pb.MediaSource]:
    """The sources by the path of the field in the task: init_image, mask, controls[0].image, init_audio."""
    sources = {}
    match request.WhichOneof("task"):
        case "image":
            image = request.image
            if image.HasField("init_image"):
                sources["init_image"] = image.init_image
            if image.HasField("mask"):
                sources["mask"] = image.mask
            for index, control in enumerate(image.controls):
                sources[f"controls[{index}].image"] = control.image
        case "audio":
            if request.audio.HasField("init_audio"):
                sources[INIT_AUDIO] = request.audio.init_audio
        case None:
            pass
    return sources


def name_field(path: str) -> str:
    """The field of the request that a path names."""
    return f"audio.{path}" if path == INIT_AUDIO else f"image.{path}"
