"""What a comfyui engine sends, and what it makes of the answers."""

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
from atelier_engines.errors import EngineError, EngineUnavailableError, ModelMissingError
from atelier_engines.event import Dispatched, Stage
from atelier_engines.media import Pixels
from atelier_engines.task import Control, ControlType, Lora
from tests.vendors.comfyui import nodes
from tests.vendors.comfyui.asking import (
    PICTURE,
    TASK,
    engine_for,
    events_of,
    outputs,
    started,
    steps,
)
from tests.vendors.comfyui.state import StandIn

MASK = Pixels(array=np.full((20, 20, 1), 255, np.uint8))


async def test_a_task_fills_the_workflow_and_comes_back_as_a_picture(server: StandIn) -> None:
    """Words, size, seed, steps, guidance and sampler arrive, under an id of ours."""
    async with started(server) as engine:
        events = await events_of(engine, replace(TASK, scheduler="euler_a", negative_prompt="fog"))
    graph = server.graph()
    sampler = graph["sampler"]["inputs"]
    assert (sampler["seed"], sampler["steps"], sampler["cfg"]) == (7, 4, 3.0)
    assert (sampler["sampler_name"], sampler["scheduler"]) == ("euler_ancestral", "normal")
    assert graph["positive"]["inputs"]["text"] == "a lighthouse"
    assert graph["negative"]["inputs"]["text"] == "fog"
    assert graph["checkpoint"]["inputs"]["ckpt_name"] == nodes.CHECKPOINTS[0]
    assert uuid.UUID(server.submitted[0]["prompt_id"]).version == 4
    (made,) = outputs(events)
    assert (made.media.width, made.media.height, made.seed) == (128, 64, 7)  # type: ignore[union-attr]


async def test_its_handle_comes_after_the_order_and_before_any_progress(server: StandIn) -> None:
    """What finds the jobs again names the server and their ids."""
    async with started(server) as engine:
        events = await events_of(engine, replace(TASK, seeds=(1, 2)))
    assert isinstance(events[0], Stage)
    assert isinstance(events[1], Dispatched)
    handle = json.loads(events[1].handle)
    assert handle["server"] == server.url
    assert handle["prompts"] == [body["prompt_id"] for body in server.submitted]
    assert [step.index for step in steps(events)] == list(range(1, 9))


async def test_pictures_are_uploaded_and_named_as_the_server_calls_them(server: StandIn) -> None:
    """The start, the mask and the control are brought to size; the server's names are used."""
    control = Control(type=ControlType.DEPTH, image=PICTURE, strength=0.6, start=0.1, end=0.9)
    task = replace(TASK, init_image=PICTURE, mask=MASK, strength=0.4, controls=(control,))
    async with started(server, controlnets={"depth": "sdxl_depth.safetensors"}) as engine:
        await events_of(engine, task)
    graph = server.graph()
    for node in ("init", "mask", "control_1_picture"):
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
    """The last of the chain feeds the sampler and the texts."""
    loras = (Lora(name="style/ink.safetensors"), Lora(name="hero.safetensors", weight=0.85))
    async with started(server) as engine:
        assert engine.capabilities.image is not None
        assert set(engine.capabilities.image.loras) == set(nodes.LORAS)
        await events_of(engine, replace(TASK, loras=loras))
    graph = server.graph()
    assert graph["lora_1_load"]["inputs"]["lora_name"] == "style/ink.safetensors"
    assert graph["lora_2_load"]["inputs"]["strength_model"] == 0.85
    assert graph["lora_2_load"]["inputs"]["model"] == ["lora_1_load", 0]
    assert graph["sampler"]["inputs"]["model"] == ["lora_2_load", 0]


async def test_previews_are_asked_for_only_when_wanted(server: StandIn) -> None:
    """And then every so many steps has one."""
    async with started(server) as engine:
        events = await events_of(engine, replace(TASK, preview_interval=2))
        await events_of(engine, TASK)
    assert [step.preview is not None for step in steps(events)] == [False, True, False, True]
    assert server.submitted[0]["extra_data"] == {"preview_method": "auto"}
    assert "extra_data" not in server.submitted[1]


async def test_a_task_goes_to_the_server_with_the_least_to_do(
    server: StandIn, second: StandIn
) -> None:
    """Servers that are as free as each other take turns."""
    async with started(server, second) as engine:
        server.pending.extend([n, f"somebody-else-{n}", {}, {}, []] for n in range(3))
        await events_of(engine, TASK)
        assert (len(server.submitted), len(second.submitted)) == (0, 1)
        while server.pending or server.running:
            await events_of(engine, TASK)
        for _ in range(4):
            await events_of(engine, TASK)
    assert len(server.submitted) >= 2


async def test_a_server_that_does_not_answer_is_passed_over(
    server: StandIn, second: StandIn
) -> None:
    """One of two is enough, at the start and later."""
    second.does.token = "it wants a key"  # noqa: S105 (nobody's)
    async with started(server, second) as engine:
        for _ in range(3):
            await events_of(engine, TASK)
        await engine.check()
    assert len(server.submitted) == 3


async def test_a_key_for_a_proxy_goes_with_every_request(server: StandIn) -> None:
    """Sockets and results included; it never shows in the engine's configuration."""
    server.does.token = "Bearer of-the-tests"  # noqa: S105 (nobody's)
    settings = {"url": server.url, "headers": {"Authorization": server.does.token}}
    async with started(servers=[settings]) as engine:
        events = await events_of(engine, TASK)
        assert "of-the-tests" not in repr(engine._config)
    assert len(steps(events)) == 4


async def test_without_an_answering_server_it_does_not_start() -> None:
    """And says where it looked."""
    engine = engine_for(StandIn(url="http://127.0.0.1:9"))
    with pytest.raises(EngineUnavailableError, match=r"127\.0\.0\.1:9"):
        await engine.start()


async def test_a_server_that_lists_nothing_readable_keeps_it_from_starting(server: StandIn) -> None:
    """Nothing is claimed that was not read."""
    server.does.without = ("KSampler",)
    with pytest.raises(EngineUnavailableError, match="KSampler"):
        await engine_for(server).start()


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
        await engine_for(server, **settings).start()


@pytest.mark.parametrize(
    ("absent", "feature"),
    [
        ("LoraLoader", ImageFeature.LORA),
        ("VAEEncode", ImageFeature.IMAGE_TO_IMAGE),
        ("ImageToMask", ImageFeature.INPAINTING),
    ],
)
async def test_what_the_server_has_no_node_for_is_not_claimed(
    server: StandIn, absent: str, feature: ImageFeature
) -> None:
    """The rest still works."""
    server.does.without = (absent,)
    async with started(server) as engine:
        assert engine.capabilities.image is not None
        assert feature not in engine.capabilities.image.features
        assert await events_of(engine, TASK)


async def test_two_servers_offer_only_what_both_have(server: StandIn, second: StandIn) -> None:
    """A task may go to either."""
    second.does.without = ("LoraLoader",)
    async with started(server, second) as engine:
        assert engine.capabilities.image is not None
        assert engine.capabilities.image.loras == ()


async def test_the_configuration_changes_every_workflow(server: StandIn) -> None:
    """Nodes by title, merged into what is there."""
    async with started(server, overrides={"Sampler": {"inputs": {"denoise": 0.9}}}) as engine:
        await events_of(engine, TASK)
    assert server.graph()["sampler"]["inputs"]["denoise"] == 0.9
    assert server.graph()["sampler"]["inputs"]["steps"] == 4


async def test_a_change_to_no_node_is_refused_at_the_start(server: StandIn) -> None:
    """With the nodes that there are."""
    engine = engine_for(server, overrides={"Smapler": {"inputs": {"cfg": 1}}})
    with pytest.raises(EngineUnavailableError, match=r"Smapler.*sampler \(KSampler\)"):
        await engine.start()


@pytest.mark.parametrize("others", [0, 2])
async def test_closing_takes_the_job_back_wherever_it_is(server: StandIn, others: int) -> None:
    """Waiting jobs leave the queue; a running one is interrupted, and it alone."""
    server.does.others = others
    server.does.step_seconds = 0.01
    async with started(server) as engine:
        task = replace(TASK, steps=100, seeds=(1, 2))
        async with aclosing(engine.run(task)) as events:
            async for event in events:
                if isinstance(event, Stage) and event.name == ("queued" if others else "generate"):
                    break
    ours = {body["prompt_id"] for body in server.submitted}
    assert set(server.deleted) | {name for name in server.interrupts if name} == ours
    assert None not in server.interrupts
    assert bool(server.interrupts) == (not others)


async def test_an_ended_task_interrupts_nobody(server: StandIn) -> None:
    """There is nothing left to cancel."""
    async with started(server) as engine:
        await events_of(engine, TASK)
    assert (server.interrupts, server.cancels) == ([], 0)


async def test_a_place_in_the_queue_shows(server: StandIn) -> None:
    """Jobs of others come first."""
    server.does.others = 2
    server.does.held = True
    places = []
    async with started(server) as engine, aclosing(engine.run(TASK)) as events:
        async for event in events:
            if isinstance(event, Stage) and event.name == "queued":
                places.append(event.queue_position)
                server.does.held = False
    assert places[0] == 2
    assert places == sorted(places, key=lambda place: -(place or 0))


async def test_a_workflow_that_saves_nothing_is_a_failure(server: StandIn) -> None:
    """Pictures of type temp are previews, and no results."""
    server.does.kind = "temp"
    async with started(server) as engine:
        with pytest.raises(EngineError, match="without an image"):
            await events_of(engine, TASK)
