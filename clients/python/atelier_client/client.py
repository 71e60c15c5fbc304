"""The synchronous client: plain blocking calls, no event loop anywhere."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import closing, suppress
from dataclasses import replace
from types import TracebackType
from typing import Self, Unpack

import grpc

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_client import engines_from_pb, environment, from_pb, media, requests, transfer
from atelier_client.channel import call_metadata, channel_options
from atelier_client.engines import Capabilities
from atelier_client.enums import State
from atelier_client.errors import AtelierError, UnavailableError
from atelier_client.media import LocalMedia
from atelier_client.results import Artifact, Cancellation, Generation, Health, Plan, Progress
from atelier_client.resume import Resumption
from atelier_client.status import check, error_from_rpc, translated
from atelier_client.tasks import AudioTask, ImageTask, Keywords


class Client:
    """A connection to one server, for threads and scripts; it may be shared by threads.

    Every method raises an AtelierError, of the kind that `atelier_client.errors` draws. The
    fields of an ImageTask may be given as keywords beside a prompt; `engine`, `options`, `strict`,
    `request_id` and `timeout_seconds` beside any task.
    """

    def __init__(
        self,
        server: str = "",
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: str = "",
        patience_seconds: float = 30.0,
        call_timeout_seconds: float = 30.0,
    ) -> None:
        """Connect on first use.

        Args:
            server: HOST:PORT; `ATELIER_SERVER` or localhost:50051 when empty.
            credentials: for TLS; none means plain text.
            token: goes with every call, as the metadata `authorization: Bearer TOKEN`.
            patience_seconds: how long a stream that broke is tried again.
            call_timeout_seconds: deadline of the calls that do no work.
        """
        address = server or environment.server_address()
        options = channel_options()
        self._channel = (
            grpc.insecure_channel(address, options)
            if credentials is None
            else grpc.secure_channel(address, credentials, options)
        )
        self._stub = GenerationServiceStub(self._channel)
        self._metadata = call_metadata(token)
        self._patience_seconds = patience_seconds
        self._timeout = call_timeout_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; calls under way are cancelled."""
        self._channel.close()

    def generate(
        self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]
    ) -> Generation:
        """Run a task to its end and return the generation with its outputs' bytes.

        Leaving early, or losing the connection, cancels the generation; `stream` survives a
        lost connection.
        """
        request = self._request(task, keywords)
        with translated():
            answer = self._stub.Generate(request, metadata=self._metadata)
        return self.fetch(check(from_pb.generation(answer.generation)))

    def submit(self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]) -> Generation:
        """Start a task and return as soon as it is accepted; it then runs on its own."""
        request = requests.accepted(self._request(task, keywords))
        with translated():
            answer = self._stub.Generate(request, timeout=self._timeout, metadata=self._metadata)
        return from_pb.generation(answer.generation)

    def stream(
        self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]
    ) -> Generator[Progress]:
        """Start a task and follow it to its end; the last event has the outputs' bytes.

        Each event comes once, also when the connection breaks or the server restarts. Leaving
        early (closing the generator) cancels the generation.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        generation = self.submit(task, **keywords)
        settled = False
        try:
            events = self._follow(generation.id, self._resumption(0, begun=True), fetch=True)
            with closing(events):
                for event in events:
                    settled = event.state.ended
                    yield event
        except AtelierError:
            settled = True
            raise
        finally:
            if not settled:
                with suppress(AtelierError):
                    self.cancel(generation.id)

    def follow(
        self, generation_id: str, *, after_sequence: int = 0, fetch: bool = False
    ) -> Generator[Progress]:
        """Follow a generation from the event after `after_sequence` to its end.

        Each event comes once, also when the connection breaks or the server restarts. Leaving
        does not touch the generation. `fetch` brings the outputs' bytes with the last event.

        Raises:
            AtelierError: after the last event, when the generation failed or was cancelled.
        """
        resumption = self._resumption(after_sequence, begun=False)
        return self._follow(generation_id, resumption, fetch=fetch)

    def plan(self, task: str | ImageTask | AudioTask, **keywords: Unpack[Keywords]) -> Plan:
        """What a task would do and cost, without doing it."""
        request = pb.PlanGenerationRequest(generate=self._request(task, keywords))
        with translated():
            return from_pb.plan(
                self._stub.PlanGeneration(request, timeout=self._timeout, metadata=self._metadata)
            )

    def get(self, generation_id: str) -> Generation:
        """A generation as it stands, with its small outputs' bytes; see `fetch` for the others."""
        request = pb.GetGenerationRequest(generation_id=generation_id, inline_outputs=True)
        with translated():
            answer = self._stub.GetGeneration(
                request, timeout=self._timeout, metadata=self._metadata
            )
        return from_pb.generation(answer.generation)

    def list(
        self, *, engine: str = "", states: tuple[State, ...] = (), page_size: int = 50
    ) -> Generator[Generation]:
        """Every generation, newest first, fetched page by page."""
        token = ""
        while True:
            request = requests.list_request(
                engine=engine, states=states, page_size=page_size, page_token=token
            )
            with translated():
                page = self._stub.ListGenerations(
                    request, timeout=self._timeout, metadata=self._metadata
                )
            for generation in page.generations:
                yield from_pb.generation(generation)
            token = page.next_page_token
            if not token:
                return

    def cancel(self, generation_id: str) -> Cancellation:
        """Stop a generation; the answer says what was really stopped."""
        request = pb.CancelGenerationRequest(generation_id=generation_id)
        with translated():
            answer = self._stub.CancelGeneration(
                request, timeout=self._timeout, metadata=self._metadata
            )
        return from_pb.cancellation(answer)

    def capabilities(self, engine: str = "") -> Capabilities:
        """What the service, or one engine of it, can do."""
        request = pb.GetCapabilitiesRequest(engine=engine)
        with translated():
            answer = self._stub.GetCapabilities(
                request, timeout=self._timeout, metadata=self._metadata
            )
        return engines_from_pb.capabilities(answer)

    def health(self) -> Health:
        """Whether the service and its engines can work now."""
        with translated():
            return from_pb.health(
                self._stub.Health(
                    pb.HealthRequest(), timeout=self._timeout, metadata=self._metadata
                )
            )

    def upload(self, source: LocalMedia, *, media_type: str = "") -> Artifact:
        """Store a file, or bytes, to use in tasks; its media type is told from its first bytes."""
        data = media.read(source)
        resumption = self._resumption(0, begun=False)
        while True:
            parts = transfer.upload_requests(data, media_type)
            try:
                with translated():
                    return from_pb.artifact(
                        (self._stub.UploadArtifact(parts, metadata=self._metadata)).artifact
                    )
            except UnavailableError as error:
                delay = resumption.delay_after(error)
            time.sleep(delay)

    def download(self, artifact: Artifact | str) -> bytes:
        """The bytes of an artifact, or of the id of one, checked against their sha256.

        A download that breaks off goes on where it was.

        Raises:
            TransferError: the bytes are not those that were stored.
        """
        assembly = transfer.Assembly(artifact)
        resumption = self._resumption(-1, begun=False)
        while True:
            call = self._stub.DownloadArtifact(assembly.request(), metadata=self._metadata)
            try:
                for part in call:
                    assembly.add(part)
                    resumption.moved_to(assembly.offset)
                return assembly.finish()
            except grpc.RpcError as error:
                delay = resumption.delay_after(error_from_rpc(error))
            finally:
                call.cancel()
            time.sleep(delay)

    def fetch(self, generation: Generation) -> Generation:
        """The same generation with the bytes of all its outputs."""
        outputs = [
            output
            if output.content is not None
            else replace(output, content=self.download(output.artifact))
            for output in generation.outputs
        ]
        return replace(generation, outputs=tuple(outputs))

    def _request(self, task: str | ImageTask | AudioTask, keywords: Keywords) -> pb.GenerateRequest:
        request = requests.request_from(task, keywords)
        uploaded = {item: self.upload(item) for item in requests.media_to_upload(request)}
        return requests.generate_request(request, uploaded)

    def _follow(
        self, generation_id: str, resumption: Resumption, *, fetch: bool
    ) -> Generator[Progress]:
        while True:
            call = self._stub.StreamProgress(
                pb.StreamProgressRequest(
                    generation_id=generation_id,
                    after_sequence=resumption.position,
                    inline_outputs=fetch,
                ),
                metadata=self._metadata,
            )
            try:
                for message in call:
                    if not resumption.moved_to(message.sequence):
                        continue
                    event = from_pb.progress(message)
                    if event.generation is None:
                        yield event
                        continue
                    finished = self.fetch(event.generation) if fetch else event.generation
                    yield replace(event, generation=finished)
                    check(finished)
                return
            except grpc.RpcError as error:
                delay = resumption.delay_after(error_from_rpc(error))
            finally:
                call.cancel()
            time.sleep(delay)

    def _resumption(self, position: int, *, begun: bool) -> Resumption:
        return Resumption(position=position, patience_seconds=self._patience_seconds, begun=begun)
