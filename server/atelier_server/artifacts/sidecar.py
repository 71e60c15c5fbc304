"""The JSON file beside an exported output: what it was made of, when, and by what."""

from __future__ import annotations

import json
from collections.abc import Mapping

from google.protobuf.json_format import MessageToDict

from atelier.v1.generation_pb2 import Generation, Output
from atelier_server.config.settings import StyleSettings


def build_sidecar(
    generation: Generation, output: Output, styles: Mapping[str, StyleSettings]
) -> bytes:
    """The JSON of one output. Times are RFC 3339 in UTC; values are those that were used, as in the receipt.

    The image file itself has no time, so that equal tasks give equal files; here it belongs.
    """
    style = generation.image.style
    recipe = generation.receipt.recipe
    used = {
        parameter.name: MessageToDict(parameter.value)
        for parameter in generation.receipt.parameters
        if parameter.HasField("value")
    }
    record = {
        "generation_id": generation.id,
        "request_id": generation.request_id,
        "time": generation.create_time.ToJsonString(),
        "start_time": generation.start_time.ToJsonString(),
        "engine": generation.engine,
        "model": recipe.model,
        "weights_digest": recipe.weights_digest,
        "style_id": style,
        "style_title": styles[style].title if style in styles else "",
        "seed": output.seed,
        "parameters": used,
        "versions": dict(sorted(recipe.versions.items())),
        "media_type": output.artifact.media_type,
        "sha256": output.artifact.sha256,
    }
    kept = {name: value for name, value in record.items() if value not in ("", {}, None)}
    return json.dumps(kept, ensure_ascii=False, indent=2).encode() + b"\n"
