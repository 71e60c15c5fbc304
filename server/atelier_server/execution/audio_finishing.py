"""Finishes the audio of an engine as it was decided, and writes what came of it into the receipt."""

from __future__ import annotations

from atelier.v1.generation_pb2 import DISPOSITION_CLAMPED, DISPOSITION_DEFAULTED, Receipt
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier_engines.media import Encoded, Media, Pixels
from atelier_server.artifacts.audio.finish import Finished
from atelier_server.artifacts.audio.plan import MAX_TRUE_PEAK_DBTP
from atelier_server.artifacts.audio.reading import AudioHeader
from atelier_server.artifacts.encode import Encoder
from atelier_server.engines.task_codec import decode_finishing
from atelier_server.errors import UnsupportedTaskError

_LOUDNESS = "loudness_lufs"


async def finish_audio(
    encoder: Encoder, media: Media, task: bytes, request: GenerateRequest, receipt: Receipt
) -> Media:
    """The media as the encoded task decided it; images as they are, and files of audio that are so already.

    Raises:
        EngineFailedError: it is no audio, or too little of it, or a file that cannot be read.
        UnsupportedTaskError: the request is strict, and its loudness cannot be reached.
    """
    if isinstance(media, Pixels) or (plan := decode_finishing(task)) is None:
        return media
    if isinstance(media, Encoded):
        found = await encoder.decode_unfinished(media, plan, request.audio.format)
        if isinstance(found, AudioHeader):
            return media
        media = found
    finished = await encoder.finish(media, plan)
    _describe(finished, request, receipt)
    return finished.samples


def _describe(finished: Finished, request: GenerateRequest, receipt: Receipt) -> None:
    limit = f"its true peak would be more than {MAX_TRUE_PEAK_DBTP:g} dBTP"
    if finished.lowered_db:
        reason = (
            f"lowered by {finished.lowered_db:.1f} dB: the engine's samples are above full scale"
        )
        receipt.parameters.add(
            name=_LOUDNESS, disposition=DISPOSITION_DEFAULTED, explanation=reason
        )
    if finished.loudness_lufs is None:
        return
    reached = round(finished.loudness_lufs, 1)
    reason = f"{reached:g} LUFS is the loudest that this audio can be: {limit}"
    if request.strict and _LOUDNESS not in request.strict_except:
        raise UnsupportedTaskError(f"{_LOUDNESS}: {reason} (refused because the request is strict)")
    for entry in receipt.parameters:
        if entry.name == _LOUDNESS:
            entry.value.number_value = reached
            entry.disposition = DISPOSITION_CLAMPED
            entry.explanation = reason
