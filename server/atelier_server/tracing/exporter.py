"""Exports spans by OpenTelemetry's SDK, as its standard environment variables say."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from atelier_server.errors import MissingPackageError
from atelier_server.tracing.spans import Span
from atelier_server.tracing.trace_context import Trace, find_trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext


_DECISIONS = 4096  # about traces, that are remembered


class Exporter(Protocol):
    """Takes spans that have ended."""

    def export(self, spans: Iterable[Span]) -> None:
        """Send them, later and in the background."""
        ...

    def is_sampled(self, trace: Trace) -> bool:
        """Whether the trace is recorded: the same for all its spans, for it is decided by the caller or by its id."""
        ...


_active: list[Exporter] = []


def find_exporter() -> Exporter | None:
    """What takes spans in this process; None if nobody wants any, and none need to be made."""
    return _active[-1] if _active else None


def find_exemplar(trace_context: Mapping[str, str], generation_id: str) -> dict[str, str] | None:
    """The label that leads from a measurement to the trace of the generation; None if nobody records it."""
    exporter = find_exporter()
    if exporter is None:
        return None
    trace = find_trace(trace_context, generation_id)
    return {"trace_id": trace.text} if exporter.is_sampled(trace) else None


@contextmanager
def exporting(*, wanted: bool) -> Generator[None]:
    """Export spans inside the context, if they are wanted; the last ones are sent at its end.

    Raises:
        MissingPackageError: the extra `tracing` is not installed.
    """
    if not wanted:
        yield
        return
    exporter = _SdkExporter()
    _active.append(exporter)
    try:
        yield
    finally:
        _active.remove(exporter)
        exporter.close()


class _SdkExporter:
    """OpenTelemetry's batches, sampler, resource and OTLP over HTTP."""

    def __init__(self) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 (an extra)
            from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 (an extra)
            from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415 (an extra)
            from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 (an extra)
        except ImportError as error:
            msg = "the environment asks for traces (OTEL_…), which need: pip install 'atelier-server[tracing]'"
            raise MissingPackageError(msg) from error
        resource = Resource.create()
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "atelier"}))
        self._provider = TracerProvider(resource=resource)
        self._processor = BatchSpanProcessor(OTLPSpanExporter())
        # Asked several times for each generation, most of which are not recorded.
        self._decide = lru_cache(maxsize=_DECISIONS)(self._ask_sampler)

    def export(self, spans: Iterable[Span]) -> None:
        """See Exporter.export."""
        for span in spans:
            if self.is_sampled(span.trace):
                self._processor.on_end(self._convert(span))

    def close(self) -> None:
        """Send what is left, and end the thread that sends."""
        self._processor.shutdown()  # type: ignore[no-untyped-call]  # of the SDK

    def is_sampled(self, trace: Trace) -> bool:
        """See Exporter.is_sampled."""
        return self._decide(trace)

    def _ask_sampler(self, trace: Trace) -> bool:
        from opentelemetry.trace import NonRecordingSpan, set_span_in_context  # noqa: PLC0415 (an extra)

        context = None
        if trace.caller_span_id:
            caller = _find_context(trace, trace.caller_span_id)
            context = set_span_in_context(NonRecordingSpan(caller))
        decided = self._provider.sampler.should_sample(context, trace.trace_id, "generation")
        return bool(decided.decision.is_sampled())  # type: ignore[no-untyped-call]  # of the SDK

    def _convert(self, span: Span) -> ReadableSpan:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 (an extra)
        from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: PLC0415 (an extra)

        kinds = {
            "server": SpanKind.SERVER,
            "client": SpanKind.CLIENT,
            "internal": SpanKind.INTERNAL,
        }
        status = Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET)
        return ReadableSpan(
            name=span.name,
            context=_find_context(span.trace, span.span_id, sampled=True),
            parent=_find_context(span.trace, span.parent_id) if span.parent_id else None,
            resource=self._provider.resource,
            attributes=span.attributes,
            kind=kinds[span.kind],
            status=status,
            start_time=span.start_ns,
            end_time=span.end_ns,
        )


def _find_context(trace: Trace, span_id: int, *, sampled: bool | None = None) -> SpanContext:
    from opentelemetry.trace import SpanContext, TraceFlags  # noqa: PLC0415 (an extra)

    flags = trace.is_sampled if sampled is None else sampled
    return SpanContext(trace.trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))
