"""Failures of a ComfyUI server, of its socket and of its jobs."""

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
from atelier_engines.conformance.remote import (
    CancelConformance,
    KeepConformance,
    LeaveConformance,
    RestartConformance,
)
from atelier_engines.conformance.remote_service import FakeService, crash, run_engine
from atelier_engines.errors import (
    EngineError,
    EngineFailedError,
    EngineTimeoutError,
    EngineUnavailableError,
    InvalidTaskError,
    JobStoppedError,
    ModelMissingError,
    OutOfMemoryError,
    TaskFailedError,
)
from atelier_engines.event import Dispatched
from tests.vendors.calls import outputs, previews, run_task, steps
from tests.vendors.comfyui.state import IMAGE, TASK, StandIn
from tests.vendors.comfyui.validation import problem


class TestFailures(RestartConformance, CancelConformance, KeepConformance, LeaveConformance):
    """The parts of the suite for remote engines that are not about payment."""

    @pytest.fixture
    def service(self, server: StandIn) -> FakeService:
        """See RemoteConformance.service."""
        return server


HTML = "<html>Bad gateway</html>"
REJECTIONS = {
    "no_prompt": EngineUnavailableError,
    "missing_node_type": ModelMissingError,
    "invalid_prompt": ModelMissingError,
    "prompt_no_outputs": EngineUnavailableError,
    "prompt_outputs_failed_validation": EngineUnavailableError,
    "invalid_prompt_id": EngineUnavailableError,
    "dependency_cycle": EngineUnavailableError,
}


@pytest.mark.parametrize("kind", REJECTIONS)
async def test_every_rejection_of_a_workflow_has_its_error(server: StandIn, kind: str) -> None:
    """A missing node, or a faulty workflow: nothing that the caller can change."""
    rejection = {"error": problem(kind, "Rejected", "in detail"), "node_errors": []}
    server.submits.add(respond(400, rejection))
    async with run_engine(server) as engine:
        with pytest.raises(REJECTIONS[kind], match="Rejected in detail"):
            await run_task(engine, TASK)


async def test_weights_that_were_removed_are_named(server: StandIn) -> None:
    """The server listed them at the start."""
    async with run_engine(server) as engine:
        with pytest.raises(ModelMissingError, match=r"ckpt_name: 'gone\.safetensors'"):
            await run_task(engine, replace(TASK, model="gone.safetensors"))
    assert server.submitted == []


async def test_a_workflow_accepted_in_part_is_rejected_and_cancelled(server: StandIn) -> None:
    """A part of the outputs is not the result."""
    server.does.partly = True
    server.does.others = 2
    async with run_engine(server) as engine:
        with pytest.raises(EngineUnavailableError, match="Required input is missing"):
            await run_task(engine, TASK)
    assert server.deleted == [server.submitted[0]["prompt_id"]]


async def test_out_of_memory_frees_the_servers_memory(server: StandIn) -> None:
    """The error says what to change."""
    server.does.error = {
        "node_type": "KSampler",
        "exception_type": "torch.OutOfMemoryError",
        "exception_message": "Allocation on device",
    }
    async with run_engine(server) as engine:
        with pytest.raises(OutOfMemoryError, match="smaller"):
            await run_task(engine, TASK)
    assert server.freed == 1


async def test_a_failed_node_is_named_without_its_traceback_or_inputs(server: StandIn) -> None:
    """These have prompts and paths."""
    server.does.error = {"node_type": "KSampler", "exception_message": "mat1 and\nmat2 differ"}
    server.does.blocked = True
    async with run_engine(server) as engine:
        with pytest.raises(EngineFailedError, match="KSampler: mat1 and mat2 differ") as failed:
            await run_task(engine, TASK)
    assert "secret" not in str(failed.value)


async def test_a_file_that_was_removed_after_the_start_is_missing(server: StandIn) -> None:
    """The operator is to install it; paths on the server are not passed on."""
    server.does.error = {
        "node_type": "CheckpointLoaderSimple",
        "exception_type": "FileNotFoundError",
        "exception_message": "Model in folder 'checkpoints' with filename 'x.ckpt' not found.",
    }
    async with run_engine(server) as engine:
        with pytest.raises(ModelMissingError, match=r"'x\.ckpt' not found"):
            await run_task(engine, TASK)
    server.does.error |= {"exception_type": "OSError", "exception_message": "'/srv/m/x' is broken"}
    async with run_engine(server) as engine:
        with pytest.raises(EngineFailedError, match=r"\(a path on the server\) is broken"):
            await run_task(engine, TASK)


async def test_a_node_that_cannot_load_what_the_task_selects_is_the_tasks_fault(
    server: StandIn,
) -> None:
    """Other tasks succeed, so the server is not at fault."""
    server.does.error = {"node_type": "LoraLoader", "exception_message": "header too large"}
    async with run_engine(server) as engine:
        with pytest.raises(TaskFailedError, match="LoraLoader: header too large"):
            await run_task(engine, TASK)


async def test_a_blocked_branch_is_not_a_failure(server: StandIn) -> None:
    """History decides, not the first error message."""
    server.does.blocked = True
    async with run_engine(server) as engine:
        assert outputs(await run_task(engine, TASK))


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
async def test_the_image_arrives_whatever_the_socket_does(
    server: StandIn, behaviour: dict[str, object]
) -> None:
    """Steps are in ascending order, to their total."""
    for name, value in behaviour.items():
        setattr(server.does, name, value)
    async with run_engine(server) as engine:
        events = await run_task(engine, replace(TASK, preview_interval=1))
    assert len(outputs(events)) == 1
    indices = [index for index, _ in steps(events)]
    assert indices == sorted(set(indices))
    assert indices[-1] == 4


async def test_invalid_frames_cost_no_step_and_no_preview(server: StandIn) -> None:
    """Unknown types, invalid frames and one of 5 MiB are skipped."""
    server.does.junk = True
    async with run_engine(server) as engine:
        events = await run_task(engine, replace(TASK, preview_interval=1))
    assert [preview is not None for preview in previews(events)] == [True] * 4


async def test_a_restarted_server_has_lost_the_job(server: StandIn) -> None:
    """Neither queue nor history has it: it has failed, and may be repeated."""
    server.does.restart_at = 2
    async with run_engine(server) as engine:
        with pytest.raises(EngineFailedError, match="lost the job") as lost:
            await run_task(engine, TASK)
    assert lost.value.repeatable


async def test_an_interruption_by_another_client_is_a_failure(server: StandIn) -> None:
    """The job was interrupted at the server."""
    server.does.intruder_at = 2
    async with run_engine(server) as engine:
        with pytest.raises(JobStoppedError, match="someone else"):
            await run_task(engine, TASK)


@pytest.mark.parametrize(
    "view",
    [respond(404), respond_bytes(b"\x89PNG half", "image/png"), respond(200, HTML)],
    ids=["expired", "truncated", "html"],
)
async def test_a_result_that_is_gone_or_broken_is_a_failure(server: StandIn, view: object) -> None:
    """It never reaches the caller as an image."""
    server.downloads.always = view  # type: ignore[assignment]  # the stand-in takes any answer
    async with run_engine(server) as engine:
        with pytest.raises(EngineFailedError):
            await run_task(engine, TASK)


async def test_an_incomplete_download_is_retried(server: StandIn) -> None:
    """A broken connection is not a broken image."""
    server.downloads.add(cut_short(bytes(5000), "image/png"))
    async with run_engine(server) as engine:
        assert outputs(await run_task(engine, TASK))


@pytest.mark.parametrize("how", ["downloads", "polls"])
async def test_a_response_that_never_ends_times_out(server: StandIn, how: str) -> None:
    """The job was accepted, so the error lets no other engine start it too."""
    getattr(server, how).always = drip
    async with run_engine(server, response_timeout_seconds=0.2, timeout_seconds=0.5) as engine:
        with pytest.raises(EngineTimeoutError):
            await run_task(engine, TASK)


async def test_a_busy_server_is_retried(server: StandIn) -> None:
    """After too many requests, and after a transient error of the proxy."""
    server.submits.add(respond(429, {"error": {"type": "QUEUE_LIMIT"}}), respond(503, HTML))
    server.polls.add(respond(502, HTML))
    async with run_engine(server) as engine:
        assert outputs(await run_task(engine, TASK))
    assert len(server.submitted) == 1


async def test_a_job_whose_response_is_lost_is_found_by_its_id(server: StandIn) -> None:
    """It is not submitted twice."""
    server.does.lose_response = True
    async with run_engine(server) as engine:
        assert outputs(await run_task(engine, TASK))
    assert len(server.submitted) == 1


@pytest.mark.parametrize("how", [drop_connection, respond(502, HTML), respond(200, {"odd": 1})])
async def test_a_job_that_never_arrived_may_run_elsewhere(server: StandIn, how: object) -> None:
    """The server does not know its id."""
    server.submits.add(how)  # type: ignore[arg-type]  # the stand-in takes any answer
    async with run_engine(server) as engine:
        with pytest.raises(EngineUnavailableError, match="did not get") as nothing:
            await run_task(engine, TASK)
    assert nothing.value.repeatable
    assert server.submitted == []


async def test_a_rejected_key_says_so(server: StandIn) -> None:
    """An upload is the first request that needs it."""
    server.uploads.always = respond(403)
    async with run_engine(server) as engine:
        with pytest.raises(EngineUnavailableError, match="403"):
            await run_task(engine, replace(TASK, init_image=IMAGE))


async def test_an_image_too_large_for_the_server_is_an_invalid_task(server: StandIn) -> None:
    """Nothing is submitted."""
    server.uploads.always = respond(413)
    async with run_engine(server) as engine:
        with pytest.raises(InvalidTaskError):
            await run_task(engine, replace(TASK, init_image=IMAGE))
    assert server.submitted == []


async def test_a_hanging_upload_ends(server: StandIn) -> None:
    """Nothing was submitted yet."""
    server.uploads.always = hang
    async with run_engine(server, response_timeout_seconds=0.3) as engine:
        with pytest.raises(EngineError):
            await run_task(engine, replace(TASK, init_image=IMAGE))


async def test_a_task_that_takes_too_long_is_cancelled(server: StandIn) -> None:
    """Waiting counts too."""
    server.does.step_seconds = 0.02
    async with run_engine(server, timeout_seconds=0.5) as engine:
        with pytest.raises(EngineTimeoutError, match=r"0\.5 s"):
            await run_task(engine, replace(TASK, steps=100))
    assert server.interrupts == [server.submitted[0]["prompt_id"]]


@pytest.mark.parametrize("step_seconds", [0.002, 0.05], ids=["ended", "running"])
async def test_after_a_restart_the_job_is_found_and_submitted_once(
    server: StandIn, step_seconds: float
) -> None:
    """Whether it has ended meanwhile or is still running."""
    server.does.step_seconds = step_seconds
    handle = await crash(server)
    async with run_engine(server) as engine:
        events = await run_task(engine, replace(TASK, resume=handle))
    assert len(server.submitted) == 1
    assert len(outputs(events)) == 1
    assert not any(isinstance(event, Dispatched) for event in events)
    assert server.interrupts == []


@pytest.mark.parametrize(
    "handle", ["{}", "no json", '{"server": "http://gone", "client_id": "c", "prompts": ["p"]}']
)
async def test_a_handle_without_its_server_is_a_lost_job(server: StandIn, handle: str) -> None:
    """An invalid handle, or a server that is no longer configured."""
    async with run_engine(server) as engine:
        with pytest.raises(EngineFailedError, match="lost"):
            await run_task(engine, replace(TASK, resume=handle))


async def test_a_job_that_the_server_no_longer_knows_is_lost(server: StandIn) -> None:
    """Its history is in memory only."""
    handle = json.dumps({"server": server.url, "client_id": "c", "prompts": ["forgotten"]})
    async with run_engine(server) as engine:
        with pytest.raises(EngineFailedError, match="lost the job"):
            await run_task(engine, replace(TASK, resume=handle))
