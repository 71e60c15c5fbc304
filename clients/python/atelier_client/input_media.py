"""Reads the media of tasks, and uploads what is too large to attach: each once, however often it is used."""

from __future__ import annotations

from atelier_client.actions import Operation, ReadMedia
from atelier_client.errors import InvalidRequestError, invalid_value
from atelier_client.media import ArtifactId, HttpsUri, Media, Resolved
from atelier_client.reconnect import ReconnectPolicy
from atelier_client.requests import iterate_media
from atelier_client.tasks import AudioTask, ImageTask
from atelier_client.uploads import upload_bytes

_MAX_ATTACHED_BYTES = 2**20
"""Media of a task up to this size in total are attached; larger ones are uploaded first."""


class InputMedia:
    """The media of one task or of a batch."""

    def __init__(self, policy: ReconnectPolicy) -> None:
        """Know none yet."""
        self._policy = policy
        self._resolved: dict[int, tuple[Media, Resolved]] = {}
        self._uploaded: dict[bytes, ArtifactId] = {}

    def prepare(self, task: ImageTask | AudioTask) -> Operation[dict[str, Resolved]]:
        """The media of a task by their places, small enough for one request.

        Raises:
            InvalidRequestError: media cannot be read, or the server takes no such upload; it names their place.
        """
        places: dict[str, Resolved] = {}
        for place, source in iterate_media(task):
            places[place] = yield from self._read(place, source)
        if (
            sum(len(data) for data in places.values() if isinstance(data, bytes))
            > _MAX_ATTACHED_BYTES
        ):
            for place, data in places.items():
                if isinstance(data, bytes):
                    places[place] = yield from self._upload(place, data)
        return places

    def _read(self, place: str, source: Media) -> Operation[Resolved]:
        known = self._resolved.get(id(source))  # which is its own, as it is kept beside
        if known is not None:
            return known[1]
        try:
            resolved = yield from read(source)
        except InvalidRequestError as error:
            raise invalid_value(place, str(error)) from error
        self._resolved[id(source)] = (source, resolved)
        return resolved

    def _upload(self, place: str, data: bytes) -> Operation[ArtifactId]:
        if data not in self._uploaded:
            try:
                artifact = yield from upload_bytes(data, "", self._policy)
            except InvalidRequestError as error:
                raise invalid_value(place, str(error)) from error
            self._uploaded[data] = ArtifactId(artifact.id)
        return self._uploaded[data]


def read(source: Media) -> Operation[Resolved]:
    """The bytes of media, or what names them elsewhere; the type of the answer checked."""
    resolved = yield ReadMedia(source=source)
    if isinstance(resolved, bytes | ArtifactId | HttpsUri):
        return resolved
    raise TypeError(f"reading media returned a {type(resolved).__name__}")
