"""What the receipt says of images whose size a workflow decides."""

from __future__ import annotations

from pathlib import Path

import pytest
from grpc import StatusCode, aio

from atelier.v1.generation_pb2 import Disposition
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import StartServer
from tests.server.calls import image_request
from tests.vendors.comfyui.state import StandIn
from tests.vendors.comfyui.workflow_files import BOTH_PASSES, TWO_PASSES, change, write


async def test_the_receipt_has_the_size_that_the_workflow_makes_and_a_strict_request_is_refused(
    server: StandIn, start_server: StartServer, tmp_path: Path
) -> None:
    """Each of the outputs of one job is in the answer, in that size."""
    workflows = write(tmp_path, change(TWO_PASSES, "5", batch_size=2), BOTH_PASSES)
    engine = {"type": "comfyui", "servers": [{"url": server.url}], "workflows": workflows}
    atelier = start_server(engines={"comfy": engine})
    request = image_request(engine="comfy", task={"width": 64, "steps": 2})
    request.image.ClearField("height")
    async with aio.insecure_channel(atelier.address) as channel:
        stub = GenerationServiceStub(channel)
        made = (await stub.Generate(request)).generation
        request.strict = True
        with pytest.raises(
            aio.AioRpcError, match="makes 128 x 2048 pixels of 64 x 1024"
        ) as refused:
            await stub.Generate(request)
    sizes = [output.artifact.image_size for output in made.outputs]
    assert [(size.width, size.height) for size in sizes] == [(128, 2048)] * 2
    found = {entry.name: entry for entry in made.receipt.parameters}
    width, height = found["width"], found["height"]
    assert (width.value.number_value, width.requested.number_value) == (128, 64)
    assert width.disposition == Disposition.DISPOSITION_CLAMPED
    assert width.explanation == "the workflow makes 128 x 2048 pixels of 64 x 1024"
    assert (height.value.number_value, height.HasField("requested")) == (2048, False)
    assert height.disposition == Disposition.DISPOSITION_DEFAULTED
    assert refused.value.code() is StatusCode.FAILED_PRECONDITION
