"""Traces: spans of calls and attempts, built from what was measured anyway, and their export by OpenTelemetry."""
