"""What an invokeai engine sends, and the progress of its tasks."""

from __future__ import annotations

import io
from contextlib import aclosing
from dataclasses import replace

import grpc
import numpy as np
import pytest
from grpc import aio
from PIL import Image
from pydantic import ValidationError

from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_engines.capabilities import ImageFeature
from atelier_engines.conformance.remote_service import collect_events, run_engine
from atelier_engines.errors import EngineUnavailableError, InvalidTaskError, ModelMissingError
from atelier_engines.event import Dispatched, Output, Stage, Step
from atelier_engines.media import Encoded
from atelier_engines.task import Control, ControlType, Lora
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.invokeai.schemas import SocketEvent
from atelier_engines.vendors.invokeai.sizes import find_nearest
from atelier_engines.vendors.invokeai.socket_events import BatchEvents
from tests.conftest import StartServer
from tests.server.calls import Stub, dispositions, image_request, receipt_of, refusal
from tests.vendors.calls import outputs, plain, run_task, steps
from tests.vendors.invokeai.queue import generated
from tests.vendors.invokeai.stand_in import EMAIL, PASSWORD, SUB_PATH, TASK, StandIn

BY_EVENTS = {"poll_seconds": 10.0}
"""Settings with which only an event triggers a poll, so that no poll overtakes the events of steps."""
CONTROLNETS = {"canny": "canny-xl", "depth": "depth-xl"}


def sent(vendor: StandIn, name: str) -> np.ndarray:
    """The pixels of a image that was sent."""
    return np.asarray(Image.open(io.BytesIO(vendor.uploads[name])))


def nodes(vendor: StandIn) -> dict[str, dict[str, object]]:
    """The nodes of the one batch."""
    (batch,) = vendor.batches
    found: dict[str, dict[str, object]] = batch["graph"]["nodes"]
    return found


def edges(vendor: StandIn) -> set[str]:
    """The edges of the one batch."""
    ends = [(edge["source"], edge["destination"]) for edge in vendor.batches[0]["graph"]["edges"]]
    return {f"{a['node_id']}.{a['field']} > {b['node_id']}.{b['field']}" for a, b in ends}


async def test_a_task_is_one_batch_and_its_image_arrives_byte_for_byte(vendor: StandIn) -> None:
    """Every parameter is in the graph; the default model is the first for SDXL."""
    events = await collect_events(vendor, replace(TASK, negative_prompt="fog"))
    graph = nodes(vendor)
    assert graph["model"]["model"]["name"] == "Juggernaut XL"  # type: ignore[index]  # JSON of any form
    assert (graph["positive"]["prompt"], graph["negative"]["prompt"]) == ("a lighthouse", "fog")
    assert (graph["noise"]["width"], graph["noise"]["height"]) == (64, 80)
    denoise = graph["denoise"]
    assert (denoise["steps"], denoise["cfg_scale"], denoise["scheduler"]) == (4, 6.0, "euler")
    assert denoise["denoising_start"] == 0
    (item,) = vendor.queue.items.values()
    (image,) = outputs(events)
    assert image.data == generated(item)
    assert (image.media_type, image.width, image.height) == ("image/png", 64, 80)


async def test_the_handle_comes_before_the_first_poll(vendor: StandIn) -> None:
    """A process that dies while it waits has stored the handle."""
    vendor.queue.paused = True
    async with run_engine(vendor) as engine, aclosing(engine.run(TASK)) as run:
        assert await anext(run) == Stage(name="submit")
        intended = await anext(run)
        assert isinstance(intended, Dispatched)
        assert vendor.batches == []
        dispatched = await anext(run)
        assert isinstance(dispatched, Dispatched)
        assert vendor.batches[0]["batch_id"] in dispatched.handle


async def test_stages_and_steps_follow_the_servers_events(vendor: StandIn) -> None:
    """Every step of every image once, counted over the whole task."""
    events = await collect_events(vendor, replace(TASK, seeds=(7, 8)), **BY_EVENTS)
    assert steps(events) == [(n, 8) for n in range(1, 9)]
    stages = [event.name for event in events if isinstance(event, Stage)]
    assert stages[0] == "submit"
    assert {"load", "encode_text", "denoise", "decode"} <= set(stages)


async def test_previews_are_the_servers_own_at_the_requested_interval(vendor: StandIn) -> None:
    """Each a small JPEG."""
    events = await collect_events(vendor, replace(TASK, preview_interval=2), **BY_EVENTS)
    previews = {
        event.index: event.preview for event in events if isinstance(event, Step) and event.preview
    }
    assert set(previews) == {2, 4}
    assert previews[4].media_type == "image/jpeg"
    assert (previews[4].width, previews[4].height) == (64, 80)


async def test_previews_of_large_images_have_256_pixels_on_their_longer_side(
    vendor: StandIn,
) -> None:
    """The server sends them in the size of the latents, 64 x 128 here."""
    task = replace(TASK, width=512, height=1024, preview_interval=4)
    events = await collect_events(vendor, task, **BY_EVENTS)
    sizes = {
        (event.preview.width, event.preview.height)
        for event in events
        if isinstance(event, Step) and event.preview
    }
    assert sizes == {(128, 256)}


@pytest.mark.parametrize(
    ("preset", "positive", "negative"),
    [
        ("Anime", "a lighthouse anime++, line art", "fog painting"),
        ("Sketch", "a lighthouse pencil on paper", "fog, colour"),
        (None, "a lighthouse", "fog"),
    ],
)
async def test_a_style_preset_is_put_around_the_prompts(
    vendor: StandIn, preset: str | None, positive: str, negative: str
) -> None:
    """As the server's own page does it."""
    task = replace(TASK, negative_prompt="fog", options={"style_preset": preset})
    await collect_events(vendor, task)
    nodes = vendor.batches[0]["graph"]["nodes"]
    assert (nodes["positive"]["prompt"], nodes["negative"]["prompt"]) == (positive, negative)


async def test_an_unknown_style_preset_is_refused(vendor: StandIn) -> None:
    """The error and the capabilities list those of the server."""
    async with run_engine(vendor) as engine:
        schema = str(engine.capabilities.options_schema)
        assert "Anime" in schema
        with pytest.raises(InvalidTaskError, match="it has Anime, Sketch"):
            await run_task(engine, replace(TASK, options={"style_preset": "Oil"}))
    assert vendor.batches == []


async def test_a_broken_preview_is_skipped(vendor: StandIn) -> None:
    """The steps and the image arrive all the same."""
    vendor.queue.preview = "data:image/jpeg;base64,AAAA"
    events = await collect_events(vendor, replace(TASK, preview_interval=1))
    assert outputs(events)
    assert all(event.preview is None for event in events if isinstance(event, Step))


async def test_seeds_are_items_of_one_batch_in_their_order(vendor: StandIn) -> None:
    """The server returns the ids of items in any order."""
    events = await collect_events(vendor, replace(TASK, seeds=(3, 2**32 - 1, 5)))
    assert len(vendor.batches) == 1
    assert [item.seed for item in vendor.queue.items.values()] == [3, 2**32 - 1, 5]
    assert [event.seed for event in events if isinstance(event, Output)] == [3, 2**32 - 1, 5]
    expected = [generated(item) for item in vendor.queue.items.values()]
    assert [image.data for image in outputs(events)] == expected


async def test_an_init_image_is_uploaded_in_the_size_of_the_result(
    vendor: StandIn,
) -> None:
    """Denoising starts at 1 - strength; the upload is deleted afterwards."""
    await collect_events(vendor, replace(TASK, init_image=plain(300, 20, 77), strength=0.3))
    graph = nodes(vendor)
    assert graph["init_image"]["image"] == {"image_name": "upload-0.png"}
    assert graph["denoise"]["denoising_start"] == 0.7
    assert "init_image.latents > denoise.latents" in edges(vendor)
    assert sent(vendor, "upload-0.png").shape == (80, 64, 3)
    assert (sent(vendor, "upload-0.png") == 77).all()
    assert not vendor.queue.images


async def test_a_mask_is_black_where_to_inpaint(vendor: StandIn) -> None:
    """Inverted, and without values between black and white."""
    mask = plain(64, 80, 0)
    mask.array[:40] = 200
    await collect_events(vendor, replace(TASK, init_image=plain(64, 80, 9), mask=mask))
    assert nodes(vendor)["mask"]["mask"] == {"image_name": "upload-1.png"}
    assert "mask.denoise_mask > denoise.denoise_mask" in edges(vendor)
    pixels = sent(vendor, "upload-1.png")
    assert (pixels[:40] == 0).all()
    assert (pixels[40:] == 255).all()


async def test_controls_are_collected_with_their_weights_and_ranges(vendor: StandIn) -> None:
    """Each with the ControlNet that is configured for its type."""
    canny = Control(type=ControlType.CANNY, image=plain(8, 8, 1), strength=0.5, start=0.1, end=0.6)
    depth = Control(type=ControlType.DEPTH, image=plain(8, 8, 2))
    await collect_events(vendor, replace(TASK, controls=(depth, canny)), controlnets=CONTROLNETS)
    second = nodes(vendor)["control_1"]
    assert second["control_model"]["name"] == "canny-xl"  # type: ignore[index]  # JSON of any form
    assert second["control_weight"] == 0.5
    assert (second["begin_step_percent"], second["end_step_percent"]) == (0.1, 0.6)
    assert {"control_0.control > controls.item", "control_1.control > controls.item"} <= edges(
        vendor
    )
    assert "controls.collection > denoise.control" in edges(vendor)
    assert (sent(vendor, "upload-0.png") == 2).all()


async def test_loras_form_a_chain_in_their_order(vendor: StandIn) -> None:
    """One that is named twice is added once, with the sum of its weights: the server rejects a second."""
    loras = (Lora(name="ruins", weight=0.8), Lora(name="ink"), Lora(name="ruins", weight=-0.3))
    await collect_events(vendor, replace(TASK, loras=loras))
    graph = nodes(vendor)
    assert [graph[f"lora_{n}"]["lora"]["name"] for n in (0, 1)] == ["ruins", "ink"]  # type: ignore[index]  # JSON of any form
    assert graph["lora_0"]["weight"] == pytest.approx(0.5)
    assert {
        "model.unet > lora_0.unet",
        "lora_0.clip2 > lora_1.clip2",
        "lora_1.unet > denoise.unet",
        "lora_1.clip > negative.clip",
    } <= edges(vendor)


async def test_capabilities_are_the_sdxl_models_of_the_server(vendor: StandIn) -> None:
    """Models of other families are not offered, and no controls without a ControlNet."""
    async with run_engine(vendor, model="SDXL Base") as engine:
        can = engine.capabilities.image
    assert can is not None
    assert [model.name for model in can.models] == ["SDXL Base", "Juggernaut XL"]
    assert can.loras == ("ink", "ruins")
    assert ImageFeature.CONTROLNET not in can.features


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"model": "Old One"}, "Juggernaut"), ({"controlnets": {"pose": "canny"}}, "canny-xl")],
)
async def test_a_missing_model_fails_the_start_and_available_ones_are_named(
    vendor: StandIn, settings: dict[str, object], message: str
) -> None:
    """Not the first task."""
    with pytest.raises(ModelMissingError, match=message):
        await collect_events(vendor, TASK, **settings)


async def test_without_a_board_nothing_stays_on_the_server(vendor: StandIn) -> None:
    """The images are temporary, and deleted after the download."""
    await collect_events(vendor, replace(TASK, seeds=(1, 2)))
    assert nodes(vendor)["output"]["is_intermediate"] is True
    assert not vendor.queue.images


async def test_a_board_keeps_the_images_and_is_created_once(vendor: StandIn) -> None:
    """The second engine finds it by its name."""
    for _ in range(2):
        await collect_events(vendor, board="atelier")
    assert list(vendor.boards) == ["atelier"]
    for batch in vendor.batches:
        output = batch["graph"]["nodes"]["output"]
        assert output["board"] == {"board_id": "board-0"}
        assert output["is_intermediate"] is False
    assert len(vendor.queue.images) == 2


async def test_a_server_with_users_is_signed_in_to_again_when_the_token_expires(
    vendor: StandIn,
) -> None:
    """Over the socket too, and under a path."""
    vendor.users = True
    secrets = {"email": EMAIL, "password": PASSWORD, "base_url": vendor.api + SUB_PATH}
    async with run_engine(vendor, **secrets) as engine:
        vendor.tokens.clear()
        async with aclosing(engine.run(TASK)) as run:
            events = [event async for event in run]
    assert outputs(events)
    assert vendor.sign_ins == 2


@pytest.mark.parametrize("secrets", [{}, {"email": EMAIL, "password": "guessed"}])
async def test_a_rejected_sign_in_says_what_to_check(
    vendor: StandIn, secrets: dict[str, str]
) -> None:
    """The error does not repeat the password."""
    vendor.users = True
    with pytest.raises(EngineUnavailableError, match="check email and password") as error:
        await collect_events(vendor, TASK, **secrets)
    assert "guessed" not in str(error.value)


async def test_a_paused_queue_fails_the_check(vendor: StandIn) -> None:
    """Tasks would never run."""
    async with run_engine(vendor) as engine:
        await engine.check()
        vendor.queue.paused = True
        with pytest.raises(EngineUnavailableError, match="paused"):
            await engine.check()


@pytest.mark.parametrize(
    "settings",
    [{"email": "a@b.c"}, {"scheduler": "fast"}, {"width": 100}, {"controlnets": {"ink": "x"}}],
)
def test_settings_that_cannot_work_are_refused_at_once(settings: dict[str, object]) -> None:
    """An incomplete sign-in, an unknown scheduler, a size off the grid, an unknown control type."""
    with pytest.raises(ValidationError):
        InvokeAiConfig.model_validate(settings)


def test_the_password_is_never_shown() -> None:
    """Neither in the representation of the configuration nor in its dump."""
    config = InvokeAiConfig.model_validate({"email": EMAIL, "password": PASSWORD})
    assert PASSWORD not in repr(config)
    assert PASSWORD not in str(config.model_dump())


async def test_events_of_one_item_are_not_received_for_another() -> None:
    """A server with several GPUs runs several items at once; early events are kept."""
    events = BatchEvents()
    for item_id in (2, 1, 2):
        events.put(SocketEvent(item_id=item_id, batch_id="b"))
    events.put(None)
    first = await events.receive(1, 0.0)
    assert first is not None
    assert first.item_id == 1
    assert await events.receive(1, 0.0) is None
    assert [event.item_id for event in events.list_pending(2)] == [2, 2]


@pytest.mark.parametrize(
    ("requested", "made"),
    [
        ((1080, 1920), (768, 1344)),
        ((1024, 1024), (1024, 1024)),
        ((512, 512), (1024, 1024)),
        ((1920, 1080), (1344, 768)),
        ((2048, 512), (2048, 512)),
    ],
)
def test_the_nearest_size_of_sdxl_has_the_nearest_proportions(
    requested: tuple[int, int], made: tuple[int, int]
) -> None:
    """Of those that it was trained with."""
    assert find_nearest(*requested) == made


async def test_tasks_may_be_made_in_the_sizes_of_sdxl(vendor: StandIn) -> None:
    """If so configured, or asked for by one request; the output says why it has another size."""
    wide = replace(TASK, width=320, height=128)
    for task, settings, size in (
        (wide, {"sizes": "nearest"}, (1600, 640)),
        (replace(wide, options={"sizes": "nearest"}), {}, (1600, 640)),
        (replace(wide, options={"sizes": "any"}), {"sizes": "nearest"}, (320, 128)),
    ):
        vendor.reset()
        events = await collect_events(vendor, task, **settings)
        (output,) = [event for event in events if isinstance(event, Output)]
        noise = nodes(vendor)["noise"]
        assert (noise["width"], noise["height"]) == size
        assert isinstance(output.media, Encoded)
        assert (output.media.width, output.media.height) == size
        assert ("nearest to 320x128" in output.size_reason) == (size != (320, 128))


async def test_the_receipt_has_the_size_of_sdxl_and_a_strict_request_is_refused(
    vendor: StandIn, start_server: StartServer
) -> None:
    """CLAMPED, with the reason."""
    engine = {"type": "invokeai", "base_url": vendor.api, "sizes": "nearest"}
    server = start_server(engines={"studio": engine})
    task = {"width": 320, "height": 128}
    async with aio.insecure_channel(server.address) as channel:
        stub: Stub = GenerationServiceStub(channel)
        made = (await stub.Generate(image_request(engine="studio", task=task))).generation
        width = receipt_of(made)["width"]
        assert (width.value.number_value, width.requested.number_value) == (1600, 320)
        assert dispositions(made)["width"] == "clamped"
        assert "nearest to 320x128" in width.explanation
        strict = image_request(engine="studio", task=task, strict=True)
        refused = await refusal(stub.Generate(strict))
        assert refused.code is grpc.StatusCode.FAILED_PRECONDITION
