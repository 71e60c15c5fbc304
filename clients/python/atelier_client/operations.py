"""What each method of a client does, as a generator without I/O: see `actions`.

Each request carries an id, and the server runs an id once. So the channel may retry a call without an
answer (`channel`), and an accepted task is followed by the id of its generation. A broken stream is
opened again after its last message (`reconnect`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from atelier.v1 import generation_service_pb2 as pb
from atelier_client import decoding, requests, transfer
from atelier_client.actions import (
    Action,
    Answer,
    AwaitHeaders,
    Call,
    Deliver,
    Done,
    OpenStream,
    Operation,
    ReadFile,
    Sleep,
    Streaming,
    call,
    receive,
    resume,
)
from atelier_client.engines import Capabilities
from atelier_client.enums import State
from atelier_client.errors import AtelierError, InternalError
from atelier_client.media import Artifact, LocalMedia
from atelier_client.reconnect import Reconnection, ReconnectPolicy
from atelier_client.requests import Request
from atelier_client.results import Cancellation, Generation, Health, Plan, Progress
from atelier_client.status import raise_for_state

_Y = TypeVar("_Y")
_R = TypeVar("_R")


def submit(request: Request, policy: ReconnectPolicy) -> Operation[Generation]:
    """Start a task, and return the generation as it was accepted."""
    message = requests.respond_on_acceptance((yield from _build(request, policy)))
    answer = yield from call(Call(method="Generate", request=message), pb.GenerateResponse)
    return decoding.generation_from_pb(answer.generation)


@dataclass(slots=True, kw_only=True)
class StartedStream:
    """A task that is started and followed, and cancelled if the caller stops before its end."""

    request: Request
    policy: ReconnectPolicy
    _generation_id: str = field(default="", init=False)

    def events(self) -> Streaming[Progress]:
        """Start the task, and deliver its events to the last one."""
        accepted = yield from submit(self.request, self.policy)
        self._generation_id = accepted.id
        try:
            reconnection = self.policy.start(0, connected=True)
            last = yield from _events(accepted.id, reconnection, fetch_outputs=True)
        except AtelierError:
            self._generation_id = ""
            raise
        self._generation_id = ""
        yield from _finish(last, self.policy, fetch_outputs=True)

    def result(self) -> Operation[Generation]:
        """Start the task, and return the generation at its end, with the bytes of its outputs."""
        last: Progress | None = None
        with closing(self.events()) as events:
            step = resume(events)
            while not isinstance(step, Done):
                if isinstance(step, Deliver):
                    last = step.item
                    step = resume(events)
                else:
                    step = resume(events, (yield from _attempt(step)))
        if last is None or last.generation is None:
            raise InternalError("the events of the generation ended before it did")
        return last.generation

    def leave(self) -> Operation[None]:
        """Cancel the generation, unless it has ended or failed."""
        if self._generation_id:
            with suppress(AtelierError):
                yield from cancel(self._generation_id)


def follow(
    generation_id: str, after_sequence: int, policy: ReconnectPolicy, *, fetch_outputs: bool
) -> Streaming[Progress]:
    """Deliver each later event of a generation once, over as many streams as it takes.

    With `fetch_outputs` the last event has the outputs' bytes.

    Raises:
        AtelierError: the generation failed or was cancelled (after its last event), or the stream
            cannot be opened again.
    """
    reconnection = policy.start(after_sequence)
    last = yield from _events(generation_id, reconnection, fetch_outputs=fetch_outputs)
    yield from _finish(last, policy, fetch_outputs=fetch_outputs)


def plan(request: Request, policy: ReconnectPolicy) -> Operation[Plan]:
    """Ask for the engine, parameters and cost of a task."""
    message = pb.PlanGenerationRequest(generate=(yield from _build(request, policy)))
    return decoding.plan_from_pb(
        (yield from call(Call(method="PlanGeneration", request=message), pb.PlanGenerationResponse))
    )


def get(generation_id: str) -> Operation[Generation]:
    """Read the state of a generation, with its small outputs."""
    message = pb.GetGenerationRequest(generation_id=generation_id, inline_outputs=True)
    request = Call(method="GetGeneration", request=message)
    answer = yield from call(request, pb.GetGenerationResponse)
    return decoding.generation_from_pb(answer.generation)


def list_generations(
    *, engine: str, states: tuple[State, ...], page_size: int
) -> Streaming[Generation]:
    """Deliver every generation, page by page."""
    token = ""
    while True:
        message = requests.list_request_to_pb(
            engine=engine, states=states, page_size=page_size, page_token=token
        )
        request = Call(method="ListGenerations", request=message)
        page = yield from call(request, pb.ListGenerationsResponse)
        for generation in page.generations:
            yield Deliver(decoding.generation_from_pb(generation))
        token = page.next_page_token
        if not token:
            return


def cancel(generation_id: str) -> Operation[Cancellation]:
    """Cancel a generation."""
    message = pb.CancelGenerationRequest(generation_id=generation_id)
    request = Call(method="CancelGeneration", request=message)
    return decoding.cancellation_from_pb((yield from call(request, pb.CancelGenerationResponse)))


def capabilities(engine: str) -> Operation[Capabilities]:
    """Ask for the capabilities of all engines, or of one."""
    request = Call(method="GetCapabilities", request=pb.GetCapabilitiesRequest(engine=engine))
    answer = yield from call(request, pb.GetCapabilitiesResponse)
    return decoding.capabilities_from_pb(answer)


def health() -> Operation[Health]:
    """Ask for the health of the server and of its engines."""
    request = Call(method="Health", request=pb.HealthRequest())
    return decoding.health_from_pb((yield from call(request, pb.HealthResponse)))


def upload(source: LocalMedia, media_type: str, policy: ReconnectPolicy) -> Operation[Artifact]:
    """Upload a file, or bytes; again from the start when the connection breaks."""
    data = source if isinstance(source, bytes) else (yield from _read(source))

    reconnection = policy.start(0)

    def attempt() -> Operation[Artifact]:
        parts = transfer.split_upload(
            data, media_type, on_chunk_taken=reconnection.record_connection
        )
        request = Call(method="UploadArtifact", request=parts, has_deadline=False)
        answer = yield from call(request, pb.UploadArtifactResponse)
        return decoding.artifact_from_pb(answer.artifact)

    return (yield from _reconnect(attempt, reconnection))


def download(artifact: Artifact | str, policy: ReconnectPolicy) -> Operation[bytes]:
    """Download the bytes of an artifact, and verify their SHA-256.

    Raises:
        TransferError: the bytes are not those that were stored.
    """
    verifier = transfer.DownloadVerifier(artifact)
    reconnection = policy.start(-1)

    def attempt() -> Operation[bytes]:
        yield OpenStream(method="DownloadArtifact", request=verifier.request())
        while (part := (yield from receive(pb.DownloadArtifactResponse))) is not None:
            verifier.add(part)
            reconnection.advance(verifier.offset)
        return verifier.finish()

    return (yield from _reconnect(attempt, reconnection))


def fetch(generation: Generation, policy: ReconnectPolicy) -> Operation[Generation]:
    """Download the outputs that have no bytes yet."""
    outputs = list(generation.outputs)
    for index, output in enumerate(outputs):
        if output.content is None:
            content = yield from download(output.artifact, policy)
            outputs[index] = replace(output, content=content)
    return replace(generation, outputs=tuple(outputs))


def _events(
    generation_id: str, reconnection: Reconnection, *, fetch_outputs: bool
) -> Generator[Action | Deliver[Progress], Answer, Progress | None]:
    """Deliver all events but the last, which is returned; None if there was none after the position."""

    def attempt() -> Generator[Action | Deliver[Progress], Answer, Progress | None]:
        request = pb.StreamProgressRequest(
            generation_id=generation_id,
            after_sequence=reconnection.position,
            inline_outputs=fetch_outputs,
        )
        yield OpenStream(method="StreamProgress", request=request)
        if (yield AwaitHeaders()):
            reconnection.record_answer()
        while (message := (yield from receive(pb.StreamProgressResponse))) is not None:
            if reconnection.advance(message.sequence) and not message.repetition:
                event = decoding.progress_from_pb(message)
                if event.generation is not None:
                    return event
                yield Deliver(event)
        return None

    return (yield from _reconnect(attempt, reconnection))


def _finish(
    last: Progress | None, policy: ReconnectPolicy, *, fetch_outputs: bool
) -> Streaming[Progress]:
    """Deliver the last event, and raise the error of its generation."""
    if last is None or last.generation is None:
        return
    finished = last.generation
    if fetch_outputs:
        finished = yield from fetch(finished, policy)
    yield Deliver(replace(last, generation=finished))
    raise_for_state(finished)


def _reconnect(
    attempt: Callable[[], Generator[_Y, Answer, _R]], reconnection: Reconnection
) -> Generator[_Y | Sleep, Answer, _R]:
    """Repeat the attempt until it succeeds, or until the policy gives up."""
    while True:
        try:
            return (yield from attempt())
        except AtelierError as error:
            delay = reconnection.delay_after(error)
        yield Sleep(seconds=delay)


def _attempt(action: Action) -> Generator[Action, Answer, Answer | AtelierError]:
    """Pass an action on, and return its answer or its error."""
    try:
        return (yield action)
    except AtelierError as error:
        return error


def _build(request: Request, policy: ReconnectPolicy) -> Operation[pb.GenerateRequest]:
    """Upload the large media of a task, and build its message."""
    uploaded = {}
    for item in requests.select_uploads(request):
        uploaded[item] = yield from upload(item, "", policy)
    return requests.request_to_pb(request, uploaded)


def _read(path: Path) -> Operation[bytes]:
    data = yield ReadFile(path=path)
    if not isinstance(data, bytes):
        raise TypeError(f"reading {path} returned a {type(data).__name__}")
    return data
