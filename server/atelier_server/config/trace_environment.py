"""Whether traces are exported, as the standard variables of OpenTelemetry say; its SDK reads all others itself."""

from __future__ import annotations

import os

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


def wants_traces() -> bool:
    """Whether there is an endpoint that takes traces, and nothing says to send none.

    Source: OpenTelemetry's specification, "Environment Variable Specification".
    """
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    is_off = is_off or os.environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp"
    return not is_off and any(os.environ.get(name) for name in _ENDPOINTS)
