"""Fetches the result of a job: from a URL, a data URI, or base64."""

from __future__ import annotations

import base64
import binascii
from functools import partial

from atelier_engines.errors import EngineFailedError
from atelier_engines.media import Encoded, Pixels
from atelier_engines.task import ImageTask
from atelier_engines.threads import result_from_thread
from atelier_engines.vendors import errors
from atelier_engines.vendors.client import VendorClient
from atelier_engines.vendors.deadline import Deadline
from atelier_engines.vendors.images import load_result

_MEDIA_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")


async def fetch_image(
    client: VendorClient, source: str, task: ImageTask, deadline: Deadline
) -> Encoded | Pixels:
    """The image of a job that has succeeded, in the size of the task.

    Args:
        client: of the service.
        source: where the image is: a URL, a data URI, or base64.
        task: decides the size.
        deadline: of the task.

    Raises:
        EngineFailedError: it is gone, or not a valid image.
        EngineTimeoutError: the deadline passed, or the storage cannot be reached.
    """
    if source.startswith("data:") or "://" not in source:
        decode = partial(_decode_base64, client.name, source.rpartition(",")[2])
        data = await result_from_thread(decode)
    else:
        with errors.after_acceptance(client.name):
            async with deadline.timeout(client.name):
                data = (await client.download(source, kinds=_MEDIA_TYPES)).data
    return await load_result(client.name, data, task)


def _decode_base64(vendor: str, text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise EngineFailedError(f"{vendor} sent an image that cannot be decoded") from error
