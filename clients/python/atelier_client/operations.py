"""What each method of a client does, as a generator without I/O: see `actions`.

Each request carries an id, and the server runs an id once. So the channel may retry a call without an
answer (`channel`), and an accepted task is followed by the id of its generation. A broken stream is
opened again after its last message (`reconnect`).
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace

from atelier.v1 import generation_service_pb2 as pb
from atelier_client import decoding, decoding_engines, input_media, requests, transfer
from atelier_client.actions import (
    Action,
    Answer,
    AwaitHeaders,
    Call,
    Deliver,
    Done,
    OpenStream,
    Operation,
    Streaming,
    call,
    receive,
    resume,
)
from atelier_client.engines import Capabilities, EnginePause
from atelier_client.enums import State
from atelier_client.errors import AtelierError, InternalError, InvalidRequestError
from atelier_client.input_media import InputMedia
from atelier_client.media import Artifact, Media
from atelier_client.reconnect import Reconnection, ReconnectPolicy, repeat
from atelier_client.requests import Request
from atelier_client.results import Cancellation, Generation, Health, Plan, Progress
from atelier_client.status import raise_for_state
from atelier_client.uploads import upload_bytes


def _accept(message: pb.GenerateRequest) -> Operation[Generation]:
    """Send a request, and return the generation that the server has of it."""
    answer = yield from call(Call(method="Generate", request=message), pb.GenerateResponse)
    return decoding.generation_from_pb(answer.generation)


@dataclass(slots=True, kw_only=True)
class StartedStream:
    """A task that is started and followed, and cancelled if the caller stops before its end."""

    request: Request
    policy: ReconnectPolicy
    media: InputMedia
    _message: pb.GenerateRequest | None = field(default=None, init=False)
    """What the server was asked; None before, and once the task has ended or was refused."""
    _generation_id: str = field(default="", init=False)

    def start(self) -> Operation[Generation]:
        """Start the task, and return the generation as it was accepted; it waits or runs then."""
        message = yield from _build(self.request, self.media)
        self._message = requests.respond_on_acceptance(message)
        try:
            accepted = yield from _accept(self._message)
        except AtelierError:
            self._message = None
            raise
        self._generation_id = accepted.id
        return accepted

    def events(self) -> Streaming[Progress]:
        """Start the task, unless that was done, and deliver its events to the last one."""
        if not self._generation_id:
            yield from self.start()
        try:
            reconnection = self.policy.start(0, connected=True)
            last = yield from _events(self._generation_id, reconnection, fetch_outputs=True)
        except AtelierError:
            self._forget()
            raise
        self._forget()
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

    def _forget(self) -> None:
        """Leave nothing to cancel."""
        self._message, self._generation_id = None, ""

    def leave(self) -> Operation[None]:
        """Cancel the generation, unless it has ended or failed.

        If the caller stopped before the server answered, the same request is sent again to learn the id.
        """
        with suppress(AtelierError):
            if self._message is not None and not self._generation_id:
                self._generation_id = (yield from _accept(self._message)).id
            if self._generation_id:
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


def plan(request: Request, media: InputMedia) -> Operation[Plan]:
    """Ask for the engine, parameters and cost of a task."""
    message = pb.PlanGenerationRequest(generate=(yield from _build(request, media)))
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


def cancel(generation_id: str, *, may_run_again: bool = False) -> Operation[Cancellation]:
    """Cancel a generation."""
    message = pb.CancelGenerationRequest(generation_id=generation_id, may_run_again=may_run_again)
    request = Call(method="CancelGeneration", request=message)
    return decoding.cancellation_from_pb((yield from call(request, pb.CancelGenerationResponse)))


def capabilities(engine: str) -> Operation[Capabilities]:
    """Ask for the capabilities of all engines, or of one."""
    request = Call(method="GetCapabilities", request=pb.GetCapabilitiesRequest(engine=engine))
    answer = yield from call(request, pb.GetCapabilitiesResponse)
    return decoding_engines.capabilities_from_pb(answer)


def pause(engine: str, reason: str) -> Operation[EnginePause]:
    """Pause an engine."""
    message = pb.PauseEngineRequest(engine=engine, reason=reason)
    request = Call(method="PauseEngine", request=message)
    answer = yield from call(request, pb.PauseEngineResponse)
    return decoding_engines.pause_from_pb(answer.pause)


def resume_engine(engine: str) -> Operation[bool]:
    """Let a paused engine go on."""
    request = Call(method="ResumeEngine", request=pb.ResumeEngineRequest(engine=engine))
    return (yield from call(request, pb.ResumeEngineResponse)).was_paused


def clear_queue(engine: str, reason: str) -> Operation[int]:
    """Cancel what waits for an engine."""
    message = pb.ClearQueueRequest(engine=engine, reason=reason)
    request = Call(method="ClearQueue", request=message)
    return (yield from call(request, pb.ClearQueueResponse)).cancelled


def health() -> Operation[Health]:
    """Ask for the health of the server and of its engines."""
    request = Call(method="Health", request=pb.HealthRequest())
    return decoding.health_from_pb((yield from call(request, pb.HealthResponse)))


def upload(source: Media, media_type: str, policy: ReconnectPolicy) -> Operation[Artifact]:
    """Upload local media; again from the start when the connection breaks.

    Raises:
        InvalidRequestError: they cannot be read, or are elsewhere.
    """
    data = yield from input_media.read(source)
    if not isinstance(data, bytes):
        raise InvalidRequestError(f"{data.value} is not a file of this machine")
    return (yield from upload_bytes(data, media_type, policy))


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

    return (yield from repeat(attempt, reconnection))


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

    return (yield from repeat(attempt, reconnection))


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


def _attempt(action: Action) -> Generator[Action, Answer, Answer | AtelierError]:
    """Pass an action on, and return its answer or its error."""
    try:
        return (yield action)
    except AtelierError as error:
        return error


def _build(request: Request, media: InputMedia) -> Operation[pb.GenerateRequest]:
    """Upload the large media of a task, and build its message."""
    return requests.request_to_pb(request, (yield from media.prepare(request.task)))
