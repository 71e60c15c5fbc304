"""Whether, where and after which delay a stream is opened again, decided without I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pytest

from atelier.v1 import generation_pb2
from atelier.v1 import generation_service_pb2 as pb
from atelier_client import errors, operations, transfer
from atelier_client.actions import (
    Action,
    Answer,
    AwaitHeaders,
    Call,
    Deliver,
    Done,
    OpenStream,
    Receive,
    Sleep,
    resume,
)
from atelier_client.errors import AtelierError
from atelier_client.input_media import InputMedia
from atelier_client.media import Artifact
from atelier_client.reconnect import ReconnectPolicy
from atelier_client.requests import build_request
from atelier_client.uploads import upload_bytes
from tests.client.fake_server import ARTIFACT, IMAGE_FILE

GONE = errors.ServerUnreachableError("the connection broke")
Outcome = Answer | AtelierError


@dataclass
class Run:
    """Answers an operation with prepared outcomes, on a clock that only Sleep advances."""

    answers: list[Outcome]
    headers: list[bool] = field(default_factory=list)
    """Whether the next streams are opened by a server; False when empty."""
    quiet: float = 0.0
    """How long the answer to each call and each wait for a message takes."""
    seconds: float = 0.0
    actions: list[Action] = field(default_factory=list)
    delivered: list[Any] = field(default_factory=list)

    @property
    def policy(self) -> ReconnectPolicy:
        """A timeout of ten seconds, and no jitter."""
        return ReconnectPolicy(timeout_seconds=10.0, clock=lambda: self.seconds, jitter=lambda: 1.0)

    def run(self, operation: Any) -> Any:  # noqa: ANN401 - operations of every kind
        """The result of the operation."""
        step = resume(operation)
        while not isinstance(step, Done):
            outcome: Outcome = None
            if isinstance(step, Deliver):
                self.delivered.append(step.item)
            else:
                self.actions.append(step)
                if isinstance(step, Sleep):
                    self.seconds += step.seconds
                elif isinstance(step, AwaitHeaders):
                    outcome = self.headers.pop(0) if self.headers else False
                elif isinstance(step, Receive | Call):
                    self.seconds += self.quiet
                    outcome = self.answers.pop(0)
            step = resume(operation, outcome)
        return step.result

    @property
    def delays(self) -> list[float]:
        """The delays, in order."""
        return [action.seconds for action in self.actions if isinstance(action, Sleep)]

    @property
    def opened(self) -> list[Any]:
        """The requests of the streams."""
        return [action.request for action in self.actions if isinstance(action, OpenStream)]


def event(sequence: int, *, last: bool = False) -> pb.StreamProgressResponse:
    """An event, the last one of a generation that succeeded if so."""
    message = pb.StreamProgressResponse(sequence=sequence, state=generation_pb2.STATE_RUNNING)
    if last:
        message.state = generation_pb2.STATE_SUCCEEDED
        message.generation.state = message.state
    return message


def followed(run: Run, after_sequence: int = 0) -> list[int]:
    """The sequence numbers that following a generation delivers."""
    run.run(operations.follow("g1", after_sequence, run.policy, fetch_outputs=False))
    return [progress.sequence for progress in run.delivered]


def test_a_stream_is_opened_again_after_its_last_message() -> None:
    """No event is requested twice."""
    run = Run([event(4), event(5), GONE, GONE, event(6), GONE, event(7, last=True)])
    assert followed(run, after_sequence=3) == [4, 5, 6, 7]
    assert [request.after_sequence for request in run.opened] == [3, 5, 5, 6]


def test_what_was_delivered_is_not_delivered_again() -> None:
    """A server may repeat events."""
    run = Run([event(1), event(2), GONE, event(1), event(2), event(3, last=True)])
    assert followed(run) == [1, 2, 3]


def test_delays_double_until_a_message_arrives() -> None:
    """From 0.1 to 3 seconds, and from 0.1 again after a message."""
    run = Run([event(1), *[GONE] * 7, event(2), GONE, event(3, last=True)])
    assert followed(run) == [1, 2, 3]
    assert run.delays == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 0.1])


def test_the_server_says_when_to_try_again() -> None:
    """Its delay takes precedence."""
    busy = errors.UnavailableError("loading", retry_after_seconds=4.5)
    run = Run([event(1), busy, event(2, last=True)])
    assert followed(run) == [1, 2]
    assert run.delays == [4.5]


@pytest.mark.parametrize(("begun", "seconds"), [([event(1)], 10.0), ([], 2.0)])
def test_a_server_that_stays_away_is_given_up(begun: Sequence[Outcome], seconds: float) -> None:
    """After the timeout, or sooner if it never answered: the address may be wrong."""
    run = Run([*begun, *[GONE] * 50])
    with pytest.raises(errors.ServerUnreachableError):
        followed(run)
    assert run.seconds == pytest.approx(seconds)


def test_a_stream_that_breaks_after_a_long_silence_is_opened_again() -> None:
    """The timeout counts from the failure, not from the message before it."""
    run = Run([event(1), GONE, event(2, last=True)], quiet=60.0)
    assert followed(run) == [1, 2]


def test_a_stream_that_the_server_opens_restarts_the_timeout() -> None:
    """It stays silent longer than the timeout, and breaks, time and again."""
    run = Run([*[GONE] * 2000, event(1, last=True)], headers=[True] * 2001, quiet=60.0)
    assert followed(run) == [1]
    assert max(run.delays) == 3.0


def test_attempts_that_do_not_reach_the_server_use_the_timeout_up() -> None:
    """However long each of them takes."""
    run = Run([event(1), *[GONE] * 50], headers=[True], quiet=4.0)
    with pytest.raises(errors.ServerUnreachableError):
        followed(run)
    assert len(run.opened) == 4


def upload_parts(run: Run, taken: int) -> Artifact:
    """Upload three chunks, of whose messages the connection takes so many in each attempt."""
    operation = upload_bytes(IMAGE_FILE[: 3 * transfer.CHUNK_BYTES], "", run.policy)
    step = resume(operation)
    while not isinstance(step, Done):
        outcome: Outcome = None
        if isinstance(step, Call):
            assert isinstance(step.request, Iterator)
            deque(islice(step.request, taken), maxlen=0)
            run.seconds += run.quiet
            outcome = run.answers.pop(0)
        elif isinstance(step, Sleep):
            run.seconds += step.seconds
        step = resume(operation, outcome)
    return step.result


def test_a_long_upload_that_breaks_is_sent_again() -> None:
    """The time of an upload that breaks is not the time without a server."""
    stored = pb.UploadArtifactResponse(artifact=ARTIFACT)
    assert upload_parts(Run([GONE, GONE, stored], quiet=6.0), taken=3).id == ARTIFACT.id


def test_an_upload_to_a_wrong_address_is_given_up_soon() -> None:
    """No connection has taken a chunk."""
    run = Run([GONE] * 50)
    with pytest.raises(errors.ServerUnreachableError):
        upload_parts(run, taken=1)
    assert run.seconds == pytest.approx(2.0)


def test_an_error_that_waiting_does_not_cure_is_raised() -> None:
    """Without another attempt."""
    run = Run([event(1), errors.NotFoundError("no such generation")])
    with pytest.raises(errors.NotFoundError):
        followed(run)
    assert run.delays == []


def test_a_stream_that_ends_without_a_last_event_is_over() -> None:
    """The generation had ended before the position."""
    run = Run([None])
    assert followed(run, after_sequence=9) == []
    assert len(run.opened) == 1


def test_a_download_continues_at_the_byte_where_it_broke() -> None:
    """The bytes received so far are kept."""
    half = len(IMAGE_FILE) // 2
    parts: Iterable[Outcome] = (
        pb.DownloadArtifactResponse(artifact=ARTIFACT),
        pb.DownloadArtifactResponse(chunk=IMAGE_FILE[:half]),
        GONE,
        pb.DownloadArtifactResponse(artifact=ARTIFACT),
        pb.DownloadArtifactResponse(chunk=IMAGE_FILE[half:]),
        None,
    )
    run = Run([*parts])
    assert run.run(operations.download("image-1", run.policy)) == IMAGE_FILE
    assert [request.offset for request in run.opened] == [0, half]


def started(run: Run) -> operations.StartedStream:
    """A task to start, whose acceptance is the first answer."""
    accepted = pb.GenerateResponse(generation=generation_pb2.Generation(id="g1"))
    run.answers.insert(0, accepted)
    return operations.StartedStream(
        request=build_request("a lamp", {}), policy=run.policy, media=InputMedia(run.policy)
    )


def cancelled(run: Run) -> list[str]:
    """The generations that were cancelled."""
    calls = [action for action in run.actions if isinstance(action, Call)]
    requests = [call.request for call in calls if call.method == "CancelGeneration"]
    return [request.generation_id for request in requests if not isinstance(request, Iterable)]  # type: ignore[attr-defined]  # every request here has one


def test_leaving_a_started_task_early_cancels_it() -> None:
    """By the id that its acceptance brought."""
    run = Run([])
    stream = started(run)
    events = stream.events()
    assert isinstance(resume(events), Call)
    assert isinstance(resume(events, run.answers.pop(0)), OpenStream)
    events.close()
    run.answers.append(pb.CancelGenerationResponse())
    run.run(stream.leave())
    assert cancelled(run) == ["g1"]


def test_leaving_a_task_before_it_is_accepted_cancels_it() -> None:
    """The same request learns the id; without an answer, there is nothing to cancel."""
    run = Run([])
    stream = started(run)
    events = stream.events()
    asked = resume(events)
    assert isinstance(asked, Call)
    events.close()
    run.answers.append(pb.CancelGenerationResponse())
    run.run(stream.leave())
    assert run.actions[0] == asked
    assert cancelled(run) == ["g1"]
    refused = started(Run([]))
    with pytest.raises(errors.QuotaError):
        Run([errors.QuotaError("spent")]).run(refused.events())
    nothing = Run([])
    nothing.run(refused.leave())
    assert nothing.actions == []


@pytest.mark.parametrize("end", [event(1, last=True), errors.NotFoundError("gone")])
def test_a_started_task_that_has_ended_is_not_cancelled(end: Outcome) -> None:
    """Neither after its last event nor after an error."""
    run = Run([end])
    stream = started(run)
    try:
        run.run(stream.events())
    except errors.NotFoundError:
        assert isinstance(end, AtelierError)
    run.run(stream.leave())
    assert cancelled(run) == []
