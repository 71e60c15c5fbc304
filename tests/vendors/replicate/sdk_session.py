"""A session of Replicate's SDK, run by a Python that has it installed; prints the outcome as JSON."""

import io
import json
import sys
from typing import get_args

import replicate
from replicate.exceptions import ModelError, ReplicateError
from replicate.prediction import Prediction

SCHNELL = "black-forest-labs/flux-schnell"


def main(api: str, token: str, sdxl: str, version: str) -> None:
    """Read a schema, run predictions of both kinds of models, upload, cancel, and provoke every error."""
    client = replicate.Client(api_token=token, base_url=api)
    client.poll_interval = 0.001
    model = client.models.get(sdxl)
    found = model.versions.get(version)
    told = {
        "account": client.accounts.current().username,
        "latest": model.latest_version.id,
        "fields": list(Prediction.__fields__),
        "statuses": list(get_args(Prediction.__annotations__["status"])),
        "inputs": list(found.openapi_schema["components"]["schemas"]["Input"]["properties"]),
        **run_predictions(client, version),
        **run_by_reference(client, f"{sdxl}:{version}"),
        "refusals": [
            refused(replicate.Client("no-token", base_url=api), version, {}),
            refused(client, version, {"prompt": "a mill", "num_outputs": 9}),
            refused(client, "0" * 64, {"prompt": "a mill"}),
        ],
    }
    sys.stdout.write(json.dumps(told))


def run_predictions(client: replicate.Client, version: str) -> dict[str, object]:
    """Follow one prediction to its end, and cancel another."""
    given = {"prompt": "a mill", "num_inference_steps": 4, "width": 64, "height": 72}
    made = client.predictions.create(version=version, input=given, wait=1)
    states, steps = [made.status], []
    while made.status not in {"succeeded", "failed", "canceled"}:
        made.reload()
        states.append(made.status)
        steps.append(made.progress.current if made.progress else 0)
    stopped = client.predictions.create(version=version, input=given)
    stopped.cancel()
    return {
        "states": states,
        "steps": steps,
        "output": made.output,
        "urls": sorted(made.urls),
        "cancelled": stopped.status,
    }


def run_by_reference(client: replicate.Client, reference: str) -> dict[str, object]:
    """Run a version with an uploaded image and an official model, and one that refuses the content."""
    image = io.BytesIO(b"an image")
    image.name = "init.png"
    given = {"prompt": "a mill", "image": image}
    files = client.run(reference, input=given, use_file_output=False)
    official = client.run(SCHNELL, input={"prompt": "a mill", "aspect_ratio": "1:1"})
    try:
        client.run(reference, input={"prompt": "nsfw"}, wait=False)
    except ModelError as error:
        return {"files": files, "official": official, "failure": error.prediction.error}
    return {}


def refused(client: replicate.Client, version: str, given: dict[str, object]) -> list[object]:
    """Status, title and detail of a request that is refused."""
    try:
        client.predictions.create(version=version, input=given)
    except ReplicateError as error:
        return [error.status, error.title, error.detail]
    return []


main(*sys.argv[1:])
