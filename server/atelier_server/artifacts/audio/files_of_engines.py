"""Audio that engines return as files: passed on as they are, or decoded where more is asked for than they are."""

from __future__ import annotations

from atelier.v1 import task_pb2 as pb
from atelier_engines.decoding.header import UndecodableError
from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Encoded, Samples
from atelier_server.artifacts.audio import reading
from atelier_server.artifacts.audio.formats import AUDIO_FORMATS
from atelier_server.artifacts.audio.plan import Finishing
from atelier_server.artifacts.audio.reading import AudioHeader


def decode_unfinished(
    media: Encoded, plan: Finishing, asked: pb.AudioFormat.ValueType
) -> Samples | AudioHeader:
    """The samples of a file that is not yet what was decided; of one that is, its header: it stays as it is.

    Args:
        media: the file, which may be signed.
        plan: what the engine does not do itself, and what comes out.
        asked: the file format; unset for any.

    Raises:
        EngineFailedError: it cannot be read to its end.
    """
    try:
        header = reading.read_header(media.data)
        if _is_finished(header, plan, asked):
            return header
        return reading.decode(media.data, header)
    except UndecodableError as error:
        raise EngineFailedError(f"the engine returned a file of audio: {error}") from error


def _is_finished(header: AudioHeader, plan: Finishing, asked: pb.AudioFormat.ValueType) -> bool:
    form = AUDIO_FORMATS[asked]
    is_changed = (
        plan.crossfade_seconds or plan.high_pass_hz or plan.fade_in_seconds or plan.fade_out_seconds
    )
    return (
        not is_changed
        and plan.loudness_lufs is None
        and (header.sample_rate, header.channels) == (plan.sample_rate, plan.channels)
        and plan.samples in (None, header.samples)
        and (not asked or (header.container, header.subtype) == (form.container, form.subtype))
    )
