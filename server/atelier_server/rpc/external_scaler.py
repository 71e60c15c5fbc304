"""KEDA's externalscaler.ExternalScaler: says how many seconds of work there are, and how many one replica is for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import TypeAlias

import grpc
from grpc import aio

from atelier_server.errors import StorageError
from atelier_server.generations.backlog_signal import BacklogSignal
from atelier_server.rpc.externalscaler import externalscaler_pb2 as pb

SERVICE = "externalscaler.ExternalScaler"
METRIC = "backlog_seconds"
_TARGET_SECONDS = 60.0
_LOOK_SECONDS = 1.0  # between two looks whether there is work
_Context: TypeAlias = aio.ServicerContext[pb.ScaledObjectRef, pb.IsActiveResponse]


class ExternalScaler:
    """Answers KEDA. The metadata of a trigger may name an `engine`; else the work of all engines counts.

    `targetSeconds` says for how much work one replica is there, 60 by default.
    """

    def __init__(self, signal: BacklogSignal) -> None:
        """Answer by this signal."""
        self._signal = signal

    def make_handler(self) -> grpc.GenericRpcHandler:
        """What a server answers the methods with."""
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
        scaled, active = pb.ScaledObjectRef, pb.IsActiveResponse
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "IsActive": unary(self._is_active, scaled.FromString, active.SerializeToString),
                "StreamIsActive": stream(
                    self._stream_is_active, scaled.FromString, active.SerializeToString
                ),
                "GetMetricSpec": unary(
                    self._get_metric_spec,
                    scaled.FromString,
                    pb.GetMetricSpecResponse.SerializeToString,
                ),
                "GetMetrics": unary(
                    self._get_metrics,
                    pb.GetMetricsRequest.FromString,
                    pb.GetMetricsResponse.SerializeToString,
                ),
            },
        )

    async def _is_active(self, ref: pb.ScaledObjectRef, context: _Context) -> pb.IsActiveResponse:
        return pb.IsActiveResponse(result=await self._measure(ref, context) > 0)

    async def _stream_is_active(
        self, ref: pb.ScaledObjectRef, context: _Context
    ) -> AsyncIterator[pb.IsActiveResponse]:
        said: bool | None = None
        while True:
            is_active = await self._measure(ref, context) > 0
            if is_active is not said:
                yield pb.IsActiveResponse(result=is_active)
                said = is_active
            await asyncio.sleep(_LOOK_SECONDS)

    async def _get_metric_spec(
        self, ref: pb.ScaledObjectRef, context: _Context
    ) -> pb.GetMetricSpecResponse:
        given = ref.scaler_metadata.get("targetSeconds", "")
        target = _read_seconds(given) if given else _TARGET_SECONDS
        if target is None:
            msg = f"targetSeconds is {given!r}; it must be a number of seconds of at least 0.001"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, msg)
        spec = pb.MetricSpec(
            metric_name=METRIC, target_size=math.ceil(target), target_size_float=target
        )
        return pb.GetMetricSpecResponse(metric_specs=[spec])

    async def _get_metrics(
        self, request: pb.GetMetricsRequest, context: _Context
    ) -> pb.GetMetricsResponse:
        if request.metric_name != METRIC:
            msg = f"no metric {request.metric_name[:100]!r}; there is {METRIC}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, msg)
        seconds = await self._measure(request.scaled_object_ref, context)
        value = pb.MetricValue(
            metric_name=METRIC, metric_value=math.ceil(seconds), metric_value_float=seconds
        )
        return pb.GetMetricsResponse(metric_values=[value])

    async def _measure(self, ref: pb.ScaledObjectRef, context: _Context) -> float:
        """Seconds of work of the engine that is asked for, or of all."""
        try:
            found = await self._signal.measure()
        except StorageError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        engine = ref.scaler_metadata.get("engine", "")
        return found.get(engine, 0.0) if engine else math.fsum(found.values())


def _read_seconds(text: str) -> float | None:
    try:
        seconds = float(text)
    except ValueError:
        return None
    return seconds if 1e-3 <= seconds <= 1e9 else None  # noqa: PLR2004 (what an int64 and KEDA take)
