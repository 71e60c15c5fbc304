"""What goes wrong between a comfyui engine and its server."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from atelier_engines.conformance.fake_server import (
    cut_short,
    drip,
    drop_connection,
    hang,
    respond,
    respond_bytes,
)
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidTaskError,
    ModelMissingError,
    OutOfMemoryError,
)
from atelier_engines.event import Dispatched
from tests.vendors.comfyui import nodes
from tests.vendors.comfyui.asking import PICTURE, TASK, events_of, outputs, started, steps
from tests.vendors.comfyui.state import StandIn

HTML = "<html>Bad gateway</html>"
REFUSALS = {
    "no_prompt": InvalidTaskError,
    "missing_node_type": ModelMissingError,
    "invalid_prompt": ModelMissingError,
    "prompt_no_outputs": InvalidTaskError,
    "prompt_outputs_failed_validation": InvalidTaskError,
    "invalid_prompt_id": InvalidTaskError,
    "dependency_cycle": InvalidTaskError,
}


@pytest.mark.parametrize("kind", REFUSALS)
async def test_every_refusal_of_a_workflow_has_its_error(server: StandIn, kind: str) -> None:
    """Some are the caller's fault, some lack an installation."""
    refused = {"error": nodes.problem(kind, "Told so", "in detail"), "node_errors": []}
    server.does.prompts.add(respond(400, refused))
    async with started(server) as engine:
        with pytest.raises(REFUSALS[kind], match="Told so in detail"):
            await events_of(engine, TASK)


async def test_weights_that_have_vanished_are_named(server: StandIn) -> None:
    """The server was asked for its list at the start, and has lost one since."""
    async with started(server) as engine:
        with pytest.raises(ModelMissingError, match=r"ckpt_name: 'gone\.safetensors'"):
            await events_of(engine, replace(TASK, model="gone.safetensors"))
    assert server.submitted == []


async def test_a_workflow_accepted_in_part_is_refused_and_cancelled(server: StandIn) -> None:
    """Half of the outputs is not what was asked for."""
    server.does.partly = True
    server.does.others = 2
    async with started(server) as engine:
        with pytest.raises(InvalidTaskError, match="Required input is missing"):
            await events_of(engine, TASK)
    assert server.deleted == [server.submitted[0]["prompt_id"]]


async def test_running_out_of_memory_frees_the_server_for_the_next_try(server: StandIn) -> None:
    """And says what to change."""
    server.does.error = {
        "node_type": "KSampler",
        "exception_type": "torch.OutOfMemoryError",
        "exception_message": "Allocation on device",
    }
    async with started(server) as engine:
        with pytest.raises(OutOfMemoryError, match="smaller"):
            await events_of(engine, TASK)
    assert server.freed == 1


async def test_a_failed_node_is_named_without_its_traceback_or_inputs(server: StandIn) -> None:
    """These hold other people's prompts and paths."""
    server.does.error = {"node_type": "KSampler", "exception_message": "mat1 and\nmat2 differ"}
    server.does.blocked = True
    async with started(server) as engine:
        with pytest.raises(EngineFailedError, match="KSampler: mat1 and mat2 differ") as failed:
            await events_of(engine, TASK)
    assert "secret" not in str(failed.value)


async def test_a_blocked_branch_is_no_failure(server: StandIn) -> None:
    """History decides, not the first error that is told."""
    server.does.blocked = True
    async with started(server) as engine:
        assert outputs(await events_of(engine, TASK))


@pytest.mark.parametrize(
    "behaviour",
    [
        {"mute": True},
        {"no_sockets": True},
        {"hang_up_at": 2},
        {"junk": True},
        {"cached": True},
        {"history_seconds": 0.1},
    ],
    ids=lambda behaviour: next(iter(behaviour)),
)
async def test_the_picture_comes_whatever_the_socket_does(
    server: StandIn, behaviour: dict[str, object]
) -> None:
    """Progress is only ever counted up, to its total."""
    for name, value in behaviour.items():
        setattr(server.does, name, value)
    async with started(server) as engine:
        events = await events_of(engine, replace(TASK, preview_interval=1))
    assert len(outputs(events)) == 1
    indices = [step.index for step in steps(events)]
    assert indices == sorted(set(indices))
    assert indices[-1] == 4


async def test_junk_between_good_frames_costs_no_step_and_no_preview(server: StandIn) -> None:
    """Unknown types, broken frames and one of 5 MiB are passed over."""
    server.does.junk = True
    async with started(server) as engine:
        made = steps(await events_of(engine, replace(TASK, preview_interval=1)))
    assert [step.preview is not None for step in made] == [True] * 4


async def test_a_restarted_server_has_lost_the_job(server: StandIn) -> None:
    """Neither queue nor history knows it: it has failed, and may be asked for again."""
    server.does.restart_at = 2
    async with started(server) as engine:
        with pytest.raises(EngineFailedError, match="lost the job") as lost:
            await events_of(engine, TASK)
    assert lost.value.repeatable


async def test_an_interruption_by_others_is_a_failure(server: StandIn) -> None:
    """Somebody pressed the button at the server."""
    server.does.intruder_at = 2
    async with started(server) as engine:
        with pytest.raises(EngineFailedError, match="someone else"):
            await events_of(engine, TASK)


@pytest.mark.parametrize(
    "view",
    [respond(404), respond_bytes(b"\x89PNG half", "image/png"), respond(200, HTML)],
    ids=["expired", "truncated", "html"],
)
async def test_a_result_that_is_gone_or_broken_is_a_failure(server: StandIn, view: object) -> None:
    """It never reaches the caller as a picture."""
    server.does.views.always = view  # type: ignore[assignment]
    async with started(server) as engine:
        with pytest.raises(EngineFailedError):
            await events_of(engine, TASK)


async def test_a_result_cut_off_is_fetched_again(server: StandIn) -> None:
    """A broken connection is no broken picture."""
    server.does.views.add(cut_short(bytes(5000), "image/png"))
    async with started(server) as engine:
        assert outputs(await events_of(engine, TASK))


@pytest.mark.parametrize("how", ["views", "histories"])
async def test_a_slow_drip_does_not_hold_the_task_for_ever(server: StandIn, how: str) -> None:
    """The work was begun, so this is no reason to begin it elsewhere."""
    getattr(server.does, how).always = drip
    async with started(server, response_timeout_seconds=0.5) as engine:
        with pytest.raises(EngineTimeoutError):
            await events_of(engine, TASK)


async def test_a_busy_server_is_asked_again(server: StandIn) -> None:
    """Too many requests and a passing fault of the proxy cost but a moment."""
    server.does.prompts.add(respond(429, {"error": {"type": "QUEUE_LIMIT"}}), respond(503, HTML))
    server.does.histories.add(respond(502, HTML))
    async with started(server) as engine:
        assert outputs(await events_of(engine, TASK))
    assert len(server.submitted) == 1


async def test_an_order_whose_answer_is_lost_is_found_by_its_id(server: StandIn) -> None:
    """It is not given twice."""
    server.does.lose_answer = True
    async with started(server) as engine:
        assert outputs(await events_of(engine, TASK))
    assert len(server.submitted) == 1


@pytest.mark.parametrize("how", [drop_connection, respond(502, HTML), respond(200, {"odd": 1})])
async def test_an_order_that_never_arrived_may_be_given_elsewhere(
    server: StandIn, how: object
) -> None:
    """The server was asked, and knows nothing of it."""
    server.does.prompts.add(how)  # type: ignore[arg-type]
    async with started(server) as engine:
        with pytest.raises(EngineUnavailableError, match="did not get") as nothing:
            await events_of(engine, TASK)
    assert nothing.value.repeatable
    assert server.submitted == []


async def test_a_refused_key_says_so(server: StandIn) -> None:
    """An upload is the first that needs it."""
    server.does.uploads.always = respond(403)
    async with started(server) as engine:
        with pytest.raises(EngineUnavailableError, match="403"):
            await events_of(engine, replace(TASK, init_image=PICTURE))


async def test_a_picture_too_large_for_the_server_is_the_callers_to_change(server: StandIn) -> None:
    """413 comes before any work."""
    server.does.uploads.always = respond(413)
    async with started(server) as engine:
        with pytest.raises(InvalidTaskError):
            await events_of(engine, replace(TASK, init_image=PICTURE))
    assert server.submitted == []


async def test_a_hanging_upload_ends(server: StandIn) -> None:
    """Nothing was begun yet."""
    server.does.uploads.always = hang
    async with started(server, response_timeout_seconds=0.3) as engine:
        with pytest.raises(EngineError):
            await events_of(engine, replace(TASK, init_image=PICTURE))


async def test_a_task_that_takes_too_long_is_cancelled(server: StandIn) -> None:
    """The deadline counts the waiting too."""
    server.does.step_seconds = 0.02
    async with started(server, timeout_seconds=0.5) as engine:
        with pytest.raises(EngineTimeoutError, match=r"0\.5 s"):
            await events_of(engine, replace(TASK, steps=100))
    assert server.interrupts == [server.submitted[0]["prompt_id"]]


async def _dispatched(server: StandIn, **settings: object) -> str:
    """The handle of a task whose process has died: nobody closed its run."""
    async with started(server, **settings) as engine:
        run = engine.run(TASK)
        async for event in run:
            if isinstance(event, Dispatched):
                server.does.token = "nobody gets through"  # noqa: S105 (nobody's)
                await run.aclose()
                server.does.token = ""
                return event.handle
    raise AssertionError("it was never dispatched")


@pytest.mark.parametrize("step_seconds", [0.002, 0.05], ids=["ended", "running"])
async def test_after_a_restart_the_job_is_found_again_and_ordered_once(
    server: StandIn, step_seconds: float
) -> None:
    """Whether it has ended meanwhile or still runs."""
    server.does.step_seconds = step_seconds
    handle = await _dispatched(server)
    async with started(server) as engine:
        events = await events_of(engine, replace(TASK, resume=handle))
    assert len(server.submitted) == 1
    assert len(outputs(events)) == 1
    assert not any(isinstance(event, Dispatched) for event in events)
    assert server.interrupts == []


@pytest.mark.parametrize(
    "handle", ["{}", "no json", '{"server": "http://gone", "client_id": "c", "prompts": ["p"]}']
)
async def test_a_handle_that_finds_nothing_is_a_lost_job(server: StandIn, handle: str) -> None:
    """Nonsense, or a server that is no longer configured."""
    async with started(server) as engine:
        with pytest.raises(EngineFailedError, match="lost"):
            await events_of(engine, replace(TASK, resume=handle))


async def test_a_job_that_the_server_forgot_meanwhile_is_lost(server: StandIn) -> None:
    """Its history is in memory only."""
    handle = json.dumps({"server": server.url, "client_id": "c", "prompts": ["forgotten"]})
    async with started(server) as engine:
        with pytest.raises(EngineFailedError, match="lost the job"):
            await events_of(engine, replace(TASK, resume=handle))
