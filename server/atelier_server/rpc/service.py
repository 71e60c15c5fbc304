"""GenerationService: one short method per call. Errors are raised; `interceptors/errors.py` converts them.

Every request is validated against the constraints of the contract. Clients get stubs without the constraints, and the
server shares those stubs. So the constrained contract lies beside this file as a descriptor set, and lives in a
descriptor pool of its own.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.resources import files

import protovalidate
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1 import generation_service_pb2_grpc
from atelier.v1.artifact_pb2 import UploadHeader
from atelier.v1.generation_pb2 import Generation, State
from atelier_server.admission.data_uris import attach_data_uris
from atelier_server.admission.policies import Policy
from atelier_server.admission.private_texts import list_private_texts, redact
from atelier_server.artifacts.artifact_store import ArtifactStore
from atelier_server.auth.caller import ANONYMOUS
from atelier_server.config.limit_settings import LimitSettings
from atelier_server.errors import GenerationFailedError, InvalidRequestError, Violation
from atelier_server.generations.callers import Sender
from atelier_server.generations.lifecycle import GenerationLifecycle
from atelier_server.generations.pages import MAX_PAGE_BYTES
from atelier_server.generations.queues import EngineQueues
from atelier_server.logs import hide_in_log
from atelier_server.rpc.capabilities import engine_to_pb
from atelier_server.rpc.inline_outputs import ResponseT, list_fitting, serialize_with_outputs
from atelier_server.rpc.interceptors.chain import Context, current_call
from atelier_server.rpc.subjects import show_subjects
from atelier_server.store.protocol import Metadata, SubmitResult
from atelier_server.version import VERSION

_ROUTING = {policy: pb.RoutingPolicy.Value(f"ROUTING_POLICY_{policy.name}") for policy in Policy}
_ENDED_BADLY = (State.STATE_FAILED, State.STATE_CANCELLED)
_MAX_CHUNK_BYTES = 2**19
_HEADERS = (("atelier-server-version", VERSION),)
_validator = protovalidate.Validator()


@dataclass(frozen=True, slots=True, eq=False)
class GenerationService(generation_service_pb2_grpc.GenerationServiceServicer):
    """The service of proto/atelier/v1/generation_service.proto, which documents each call."""

    generations: GenerationLifecycle
    artifacts: ArtifactStore
    queues: EngineQueues
    limits: LimitSettings
    started: float = field(default_factory=time.monotonic)

    async def Generate(self, request: pb.GenerateRequest, _: Context) -> pb.GenerateResponse:
        """Run a task to its end, or return once it is accepted."""
        inline, response_mode = request.inline_outputs, request.response_mode
        submitted = await self._submit(request)
        del request  # it may be large, and the generation may last for long
        current_call().request.let_go()
        generation = submitted.generation
        if response_mode != pb.RESPONSE_MODE_ON_ACCEPTANCE:
            generation = await self.generations.wait_result(
                submitted, _tenant(), current_call().has_timed_out
            )
            self._require_success(generation)
        response = pb.GenerateResponse(generation=generation)
        return await self._attach_outputs(response) if inline else response

    def _require_success(self, generation: Generation) -> None:
        if generation.state in _ENDED_BADLY:
            engines = self.generations.decider.router.engines
            engine = engines.get(generation.engine)
            seconds = 1.0 if engine is None else engines.estimate_retry(engine, _tenant())
            raise GenerationFailedError(generation, retry_after_seconds=seconds)

    async def StreamProgress(
        self, request: pb.StreamProgressRequest, context: Context
    ) -> AsyncGenerator[pb.StreamProgressResponse]:
        """Start a task or attach to one, and follow it."""
        inline = request.inline_outputs or request.generate.inline_outputs
        events = await self._open_events(request, context)
        del request  # it may be large, and the generation may last for long
        current_call().request.let_go()
        async with aclosing(events):
            async for event in events:
                if inline and event.HasField("generation"):
                    last = pb.StreamProgressResponse()
                    last.CopyFrom(event)
                    yield await self._attach_outputs(last)
                else:
                    yield event

    async def GetCapabilities(
        self, request: pb.GetCapabilitiesRequest, _: Context
    ) -> pb.GetCapabilitiesResponse:
        """List the engines."""
        _validate(request)
        decider = self.generations.decider
        known = decider.router.engines
        engines = [known.require(request.engine)] if request.engine else list(known.values())
        return pb.GetCapabilitiesResponse(
            engines=[
                engine_to_pb(
                    engine,
                    await self.generations.store.queue_depth(engine.name),
                    decider.styles,
                    known.estimate_end(engine),
                )
                for engine in engines
            ],
            default_engine=decider.router.default,
            routing=_ROUTING[decider.router.policy],
            version=VERSION,
            max_inline_bytes=self.limits.max_inline_bytes,
            max_upload_bytes=self.limits.max_upload_bytes,
        )

    async def Health(self, _request: pb.HealthRequest, _: Context) -> pb.HealthResponse:
        """Report the state of the server and of each engine."""
        reason = self.generations.unready_reason
        response = pb.HealthResponse(
            status=pb.SERVING_STATUS_NOT_SERVING if reason else pb.SERVING_STATUS_SERVING,
            engines=[
                pb.EngineHealth(
                    engine=engine.name,
                    state=engine.state,
                    message=engine.message,
                    pause=engine.pause,
                )
                for engine in self.generations.decider.router.engines.values()
            ],
            version=VERSION,
            message=reason,
            accepts_generations=not self.generations.rejection_reason,
        )
        response.uptime.FromMicroseconds(int((time.monotonic() - self.started) * 1e6))
        return response

    async def PlanGeneration(
        self, request: pb.PlanGenerationRequest, _: Context
    ) -> pb.PlanGenerationResponse:
        """Return what a request would do, without doing it."""
        if not request.HasField("generate"):
            _validate(request)
        hide_in_log(partial(redact, private=tuple(list_private_texts(request.generate))))
        with _prefix_fields("generate"):
            attach_data_uris(request.generate)
            _validate_generate(request.generate)
            return await self.generations.plan(request.generate, _tenant())

    async def GetGeneration(
        self, request: pb.GetGenerationRequest, _: Context
    ) -> pb.GetGenerationResponse:
        """Return one generation."""
        _validate(request)
        generation = await self.generations.get(request.generation_id, _tenant())
        response = pb.GetGenerationResponse(generation=generation)
        await self._show_subjects([response.generation])
        return await self._attach_outputs(response) if request.inline_outputs else response

    async def ListGenerations(
        self, request: pb.ListGenerationsRequest, _: Context
    ) -> pb.ListGenerationsResponse:
        """Return one page of generations."""
        _validate(request)
        await current_call().answer.reserve(_tenant(), MAX_PAGE_BYTES)
        response = await self.generations.list(request, _tenant())
        await self._show_subjects(response.generations)
        return response

    async def _show_subjects(self, generations: Sequence[Generation]) -> None:
        await show_subjects(self.generations.store, current_call().caller, generations)

    async def CancelGeneration(
        self, request: pb.CancelGenerationRequest, _: Context
    ) -> pb.CancelGenerationResponse:
        """Stop a generation."""
        _validate(request)
        return await self.generations.cancel(
            request.generation_id, _tenant(), may_run_again=request.may_run_again
        )

    async def PauseEngine(
        self, request: pb.PauseEngineRequest, _: Context
    ) -> pb.PauseEngineResponse:
        """Let an engine begin nothing more."""
        _validate(request)
        return pb.PauseEngineResponse(pause=await self.queues.pause(request.engine, request.reason))

    async def ResumeEngine(
        self, request: pb.ResumeEngineRequest, _: Context
    ) -> pb.ResumeEngineResponse:
        """Let a paused engine go on."""
        _validate(request)
        return pb.ResumeEngineResponse(was_paused=await self.queues.resume(request.engine))

    async def ClearQueue(self, request: pb.ClearQueueRequest, _: Context) -> pb.ClearQueueResponse:
        """Cancel what waits for an engine."""
        _validate(request)
        cancelled = await self.queues.clear(request.engine, request.reason)
        return pb.ClearQueueResponse(cancelled=cancelled)

    async def UploadArtifact(
        self, requests: AsyncIterator[pb.UploadArtifactRequest], _: Context
    ) -> pb.UploadArtifactResponse:
        """Store a blob."""
        self.generations.storage.require_space()
        quotas, tenant = self.generations.quotas, _tenant()
        await quotas.require_storage(tenant)
        header = await _read_header(requests)
        async with aclosing(_read_chunks(requests)) as chunks:
            allowance = quotas.find_allowance(tenant)
            artifact = await self.artifacts.upload(header, chunks, tenant, allowance)
        return pb.UploadArtifactResponse(artifact=artifact)

    async def DownloadArtifact(
        self, request: pb.DownloadArtifactRequest, _: Context
    ) -> AsyncGenerator[pb.DownloadArtifactResponse]:
        """Return a blob from an offset on."""
        _validate(request)
        artifact = await self.artifacts.find(request.artifact_id, _tenant())
        if request.offset > artifact.size:
            raise InvalidRequestError(
                [Violation("offset", f"must be at most {artifact.size}, not {request.offset}")]
            )
        yield pb.DownloadArtifactResponse(artifact=artifact)
        async with aclosing(self.artifacts.read_stream(artifact, request.offset)) as chunks:
            async for chunk in chunks:
                yield pb.DownloadArtifactResponse(chunk=chunk)

    async def _submit(self, request: pb.GenerateRequest) -> SubmitResult:
        hide_in_log(partial(redact, private=tuple(list_private_texts(request))))
        attach_data_uris(request)
        _validate_generate(request)
        call = current_call()
        call.caller.require("generate")
        named = bool(request.request_id)
        seconds_left = (
            None
            if request.response_mode == pb.RESPONSE_MODE_ON_ACCEPTANCE
            else call.remaining_seconds()
        )
        sender = Sender(
            caller=call.caller.tenant,
            metadata=Metadata(
                tenant=call.caller.tenant,
                subject="" if call.caller is ANONYMOUS else call.caller.subject,
                trace_context=call.trace_context,
            ),
            seconds_left=seconds_left,
            repeated=call.repeated,
        )
        submitted = await self.generations.submit(request, sender)
        call.accepted.generation_id = submitted.generation.id
        call.accepted.request_id = submitted.generation.request_id
        call.accepted.repeatable = named
        return submitted

    async def _open_events(
        self, request: pb.StreamProgressRequest, context: Context
    ) -> AsyncGenerator[pb.StreamProgressResponse]:
        if request.WhichOneof("target") == "generate":
            with _prefix_fields("generate"):
                submitted = await self._submit(request.generate)
            return self.generations.follow_submitted(
                submitted, _tenant(), request.after_sequence, current_call().has_timed_out
            )
        current_call().caller.require("read")
        _validate(request)
        await self.generations.get(request.generation_id, _tenant())
        current_call().accepted.generation_id = request.generation_id
        # The next event may be far off: the headers tell the caller that it is attached.
        await context.send_initial_metadata(_HEADERS)
        return self.generations.follow(
            request.generation_id,
            _tenant(),
            request.after_sequence,
            current_call().has_timed_out,
        )

    async def _attach_outputs(self, response: ResponseT) -> ResponseT:
        """The response with the bytes of outputs, up to the limit for inline outputs; takes it apart."""
        fitting = list_fitting(response.generation, self.limits.max_inline_bytes)
        size = sum(artifact.size for artifact in fitting if artifact is not None)
        await current_call().answer.reserve(_tenant(), size)
        contents = [
            None if artifact is None else await self.artifacts.read_output(artifact)
            for artifact in fitting
        ]
        return serialize_with_outputs(response, contents)


def _tenant() -> str:
    return current_call().caller.tenant


@contextmanager
def _prefix_fields(field: str) -> Generator[None]:
    """Prefix the paths of invalid fields with `field`, so that they start at the top of the request."""
    try:
        yield
    except InvalidRequestError as error:
        raise InvalidRequestError(
            [
                Violation(f"{field}.{violation.field}", violation.message)
                for violation in error.violations
            ]
        ) from error


def _validate_generate(request: pb.GenerateRequest) -> None:
    """Validate everything except the attachments, which have no constraints and may be large."""
    if not request.attachments:
        _validate(request)
        return
    fields = {descriptor.name: value for descriptor, value in request.ListFields()}
    del fields["attachments"]
    _validate(pb.GenerateRequest(**fields))


def _validate(message: Message) -> None:
    """Return if the message satisfies the contract. It is copied, so it must not contain large bytes.

    Raises:
        InvalidRequestError: it does not; names every invalid field.
    """
    constrained = _load_classes()[message.DESCRIPTOR.full_name].FromString(
        message.SerializeToString()
    )
    violations = _validator.collect_violations(constrained)
    if violations:
        raise InvalidRequestError([_convert_violation(violation) for violation in violations])


@cache
def _load_classes() -> dict[str, type[Message]]:
    """The message classes with constraints, by full name."""
    contract = FileDescriptorSet.FromString(
        files("atelier_server.rpc").joinpath("contract.binpb").read_bytes()
    )
    pool = DescriptorPool()
    for file in contract.file:
        pool.AddSerializedFile(file.SerializeToString())
    names = [
        f"{file.package}.{message.name}"
        for file in contract.file
        if file.package == "atelier.v1"
        for message in file.message_type
    ]
    return {name: GetMessageClass(pool.FindMessageTypeByName(name)) for name in names}


def _convert_violation(violation: protovalidate.Violation) -> Violation:
    path = ""
    for element in violation.proto.field.elements if violation.proto.field is not None else ():
        path += f".{element.field_name}"
        if element.subscript is not None:
            path += f"[{element.subscript.value}]"
    return Violation(path.lstrip(".") or "request", violation.proto.message)


async def _read_header(requests: AsyncIterator[pb.UploadArtifactRequest]) -> UploadHeader:
    """Read the header, which is the first message of an upload.

    Raises:
        InvalidRequestError: it begins with something else, or the header is wrong.
    """
    first = await anext(aiter(requests), None)
    if first is None or first.WhichOneof("part") != "header":
        raise InvalidRequestError([Violation("header", "must be the first message of an upload")])
    _validate(first)
    return first.header


async def _read_chunks(requests: AsyncIterator[pb.UploadArtifactRequest]) -> AsyncGenerator[bytes]:
    """Read the chunks after the header.

    Raises:
        InvalidRequestError: something else follows, or a chunk is too large.
    """
    async for request in requests:
        if request.WhichOneof("part") != "chunk":
            raise InvalidRequestError([Violation("chunk", "only chunks may follow the header")])
        chunk = request.chunk
        if len(chunk) > _MAX_CHUNK_BYTES:
            message = f"must have at most {_MAX_CHUNK_BYTES} bytes, not {len(chunk)}"
            raise InvalidRequestError([Violation("chunk", message)])
        yield chunk
