"""What a comfyui engine sends, and its capabilities and progress."""

from __future__ import annotations

import io
import json
import uuid
from contextlib import aclosing
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from atelier_engines.capabilities import ImageFeature
from atelier_engines.conformance.remote_service import collect_events, run_engine
from atelier_engines.errors import (
    EngineError,
    EngineUnavailableError,
    InvalidTaskError,
    ModelMissingError,
)
from atelier_engines.event import Dispatched, Output, Stage
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType, Lora
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from tests.vendors.calls import outputs, previews, run_task, steps
from tests.vendors.comfyui import nodes
from tests.vendors.comfyui.state import IMAGE, TASK, StandIn

MASK = Pixels(array=np.full((20, 20, 1), 255, np.uint8))


async def test_a_task_fills_the_workflow_and_returns_an_image(server: StandIn) -> None:
    """Prompt, size, seed, steps, guidance and sampler are sent, with an id of the engine."""
    async with run_engine(server) as engine:
        events = await run_task(engine, replace(TASK, scheduler="euler_a", negative_prompt="fog"))
    graph = server.graph()
    sampler = graph["sampler"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 4, 3.0)
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("euler_ancestral", "normal")
    assert graph["positive"]["inputs"]["text"] == "a lighthouse"
    assert graph["negative"]["inputs"]["text"] == "fog"
    assert graph["checkpoint"]["inputs"]["ckpt_name"] == nodes.CHECKPOINTS[0]
    assert uuid.UUID(server.submitted[0]["prompt_id"]).version == 4
    (image,) = outputs(events)
    assert (image.width, image.height) == (128, 64)
    assert [event.seed for event in events if isinstance(event, Output)] == [7]


async def test_the_handle_comes_after_the_submission_and_before_any_progress(
    server: StandIn,
) -> None:
    """It has the server and the ids of the jobs."""
    async with run_engine(server) as engine:
        events = await run_task(engine, replace(TASK, seeds=(1, 2)))
    assert isinstance(events[0], Stage)
    assert isinstance(events[1], Dispatched)
    handle = json.loads(events[1].handle)
    assert handle["server"] == server.url
    assert handle["prompts"] == [body["prompt_id"] for body in server.submitted]
    assert steps(events) == [(n, 8) for n in range(1, 9)]


async def test_images_are_uploaded_and_named_as_the_server_names_them(server: StandIn) -> None:
    """Init image, mask and control are resized; the server's names are used."""
    control = Control(type=ControlType.DEPTH, image=IMAGE, strength=0.6, start=0.1, end=0.9)
    task = replace(TASK, init_image=IMAGE, mask=MASK, strength=0.4, controls=(control,))
    async with run_engine(server, controlnets={"depth": "sdxl_depth.safetensors"}) as engine:
        await run_task(engine, task)
    graph = server.graph()
    for node in ("init", "mask", "control_1_load"):
        name = graph[node]["inputs"]["image"]
        assert name.endswith(" (1).png")
        with Image.open(io.BytesIO(server.received[name])) as image:
            assert image.size == (128, 64)
    assert graph["sampler"]["inputs"]["denoise"] == 0.4
    applied = graph["control_1_apply"]["inputs"]
    assert (applied["strength"], applied["start_percent"], applied["end_percent"]) == (
        0.6,
        0.1,
        0.9,
    )
    assert graph["sampler"]["inputs"]["positive"] == ["control_1_apply", 0]


async def test_loras_are_chained_in_their_order_with_their_weights(server: StandIn) -> None:
    """The last one is linked to the sampler and the prompts."""
    loras = (Lora(name="style/ink.safetensors"), Lora(name="hero.safetensors", weight=0.85))
    async with run_engine(server) as engine:
        assert engine.capabilities.image is not None
        assert set(engine.capabilities.image.loras) == set(nodes.LORAS)
        await run_task(engine, replace(TASK, loras=loras))
    graph = server.graph()
    assert graph["lora_1_load"]["inputs"]["lora_name"] == "style/ink.safetensors"
    assert graph["lora_2_load"]["inputs"]["strength_model"] == 0.85
    assert graph["lora_2_load"]["inputs"]["model"] == ["lora_1_load", 0]
    assert graph["sampler"]["inputs"]["model"] == ["lora_2_load", 0]


async def test_previews_are_requested_only_when_wanted(server: StandIn) -> None:
    """And at the requested interval."""
    async with run_engine(server) as engine:
        events = await run_task(engine, replace(TASK, preview_interval=2))
        await run_task(engine, TASK)
    assert [preview is not None for preview in previews(events)] == [False, True, False, True]
    assert server.submitted[0]["extra_data"] == {"preview_method": "auto"}
    assert "extra_data" not in server.submitted[1]


async def test_a_task_runs_on_the_server_with_the_shortest_queue(
    server: StandIn, second: StandIn
) -> None:
    """Servers with equal queues take turns."""
    async with run_engine(server, servers=[{"url": server.url}, {"url": second.url}]) as engine:
        server.pending.extend([n, f"other-client-{n}", {}, {}, []] for n in range(3))
        await run_task(engine, TASK)
        assert (len(server.submitted), len(second.submitted)) == (0, 1)
        while server.pending or server.executing:
            await run_task(engine, TASK)
        for _ in range(4):
            await run_task(engine, TASK)
    assert len(server.submitted) >= 2


async def test_a_server_that_does_not_respond_is_skipped(server: StandIn, second: StandIn) -> None:
    """One of two is enough, at the start and later."""
    second.does.token = "a required key"  # noqa: S105 (of no service)
    async with run_engine(server, servers=[{"url": server.url}, {"url": second.url}]) as engine:
        for _ in range(3):
            await run_task(engine, TASK)
        await engine.check()
    assert len(server.submitted) == 3


async def test_headers_for_a_proxy_are_sent_with_every_request(server: StandIn) -> None:
    """Sockets and downloads included; they never show in the engine's configuration."""
    server.does.token = "Bearer of-the-tests"  # noqa: S105 (of no service)
    settings = {"url": server.url, "headers": {"Authorization": server.does.token}}
    assert len(steps(await collect_events(server, servers=[settings]))) == 4
    assert "of-the-tests" not in repr(ComfyuiConfig.model_validate({"servers": [settings]}))


async def test_without_a_responding_server_it_does_not_start() -> None:
    """The error has the URLs."""
    engine = StandIn(url="http://127.0.0.1:9").engine()
    with pytest.raises(EngineUnavailableError, match=r"127\.0\.0\.1:9"):
        await engine.start()


async def test_a_missing_node_of_the_text_to_image_workflow_fails_the_start(
    server: StandIn,
) -> None:
    """The error names the node."""
    server.does.without = ("KSampler",)
    with pytest.raises(EngineUnavailableError, match="KSampler"):
        await server.engine().start()


@pytest.mark.parametrize(
    "settings",
    [{"models": ["absent.safetensors"]}, {"controlnets": {"pose": "absent.safetensors"}}],
    ids=["model", "controlnet"],
)
async def test_a_configured_file_that_no_server_has_is_named(
    server: StandIn, settings: dict[str, object]
) -> None:
    """At the start, not in the first task."""
    with pytest.raises(ModelMissingError, match="absent"):
        await server.engine(**settings).start()


@pytest.mark.parametrize(
    ("absent", "feature"),
    [
        ("LoraLoader", ImageFeature.LORA),
        ("VAEEncode", ImageFeature.IMAGE_TO_IMAGE),
        ("ImageToMask", ImageFeature.INPAINTING),
    ],
)
async def test_a_feature_without_its_node_is_not_claimed(
    server: StandIn, absent: str, feature: ImageFeature
) -> None:
    """Other features still work."""
    server.does.without = (absent,)
    async with run_engine(server) as engine:
        assert engine.capabilities.image is not None
        assert feature not in engine.capabilities.image.features
        assert await run_task(engine, TASK)


async def test_two_servers_offer_only_what_both_have(server: StandIn, second: StandIn) -> None:
    """A task may run on either."""
    second.does.without = ("LoraLoader",)
    async with run_engine(server, servers=[{"url": server.url}, {"url": second.url}]) as engine:
        assert engine.capabilities.image is not None
        assert engine.capabilities.image.loras == ()


async def test_overrides_change_every_workflow(server: StandIn) -> None:
    """Nodes by title, merged into the graph."""
    async with run_engine(server, overrides={"Sampler": {"inputs": {"denoise": 0.9}}}) as engine:
        await run_task(engine, TASK)
    assert server.graph()["sampler"]["inputs"]["denoise"] == 0.9
    assert server.graph()["sampler"]["inputs"]["steps"] == 4


async def test_a_task_may_change_what_the_operator_allows(server: StandIn) -> None:
    """What the server then rejects is the caller's fault, by the path in the options."""
    task = replace(TASK, options={"overrides": {"Size": {"inputs": {"batch_size": 2}}}})
    async with run_engine(server, request_overrides={"Size": ["batch_size"]}) as engine:
        await run_task(engine, task)
        assert server.graph()["latent"]["inputs"]["batch_size"] == 2
        options = {"overrides": {"Size": {"inputs": {"batch_size": 10**6}}}}
        with pytest.raises(InvalidTaskError, match="batch_size") as raised:
            await run_task(engine, replace(TASK, options=options))
    assert raised.value.field == "options.overrides.Size.inputs.batch_size"
    async with run_engine(server) as engine:
        with pytest.raises(EngineError, match="may not be changed"):
            await run_task(engine, task)


async def test_an_override_of_a_missing_node_fails_the_start(server: StandIn) -> None:
    """The error lists the nodes."""
    engine = server.engine(overrides={"Smapler": {"inputs": {"cfg": 1}}})
    with pytest.raises(EngineUnavailableError, match=r"Smapler.*sampler \(KSampler\)"):
        await engine.start()


@pytest.mark.parametrize("others", [0, 2])
async def test_closing_cancels_waiting_and_running_jobs(server: StandIn, others: int) -> None:
    """Waiting jobs are deleted from the queue; a running one is interrupted, and no other."""
    server.does.others = others
    server.does.step_seconds = 0.01
    async with run_engine(server) as engine:
        task = replace(TASK, steps=100, seeds=(1, 2))
        async with aclosing(engine.run(task)) as events:
            async for event in events:
                if isinstance(event, Stage) and event.name == ("queued" if others else "generate"):
                    break
    ours = {body["prompt_id"] for body in server.submitted}
    assert set(server.deleted) | {name for name in server.interrupts if name} == ours
    assert None not in server.interrupts
    assert bool(server.interrupts) == (not others)


async def test_an_ended_task_interrupts_nothing(server: StandIn) -> None:
    """There is nothing left to cancel."""
    async with run_engine(server) as engine:
        await run_task(engine, TASK)
    assert (server.interrupts, server.cancelled) == ([], 0)


async def test_the_queue_position_is_reported(server: StandIn) -> None:
    """Jobs of other clients come first."""
    server.does.others = 2
    server.does.held = True
    positions = []
    async with run_engine(server) as engine, aclosing(engine.run(TASK)) as events:
        async for event in events:
            if isinstance(event, Stage) and event.name == "queued":
                positions.append(event.queue_position)
                server.does.held = False
    assert positions[0] == 2
    assert positions == sorted(positions, key=lambda position: -(position or 0))


async def test_a_workflow_that_saves_nothing_is_a_failure(server: StandIn) -> None:
    """Images of type temp are previews, not results."""
    server.does.kind = "temp"
    async with run_engine(server) as engine:
        with pytest.raises(EngineError, match="without an image"):
            await run_task(engine, TASK)
