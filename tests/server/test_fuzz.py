"""Anything at all as a request: a clear error or a good answer, never INTERNAL, never a dead server."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import launch
from tests.server.fuzzing import (
    ENGINES,
    METHODS,
    Target,
    any_attachment,
    any_bytes,
    any_message,
    any_upload,
    good_gone_bad,
)

fuzzed = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The server under fire."""
    server = launch(tmp_path_factory.mktemp("fuzz"), engines=ENGINES, log={"level": "error"})
    try:
        with grpc.insecure_channel(server.address) as channel:
            target = Target(server, channel)
            yield target
            assert target.healthy()
        assert server.log_lines() == []  # nothing that anybody can send is an error of the server's
        assert server.terminate() == 0
    finally:
        server.kill()


def hold(target: Target, method: str, strategy: st.SearchStrategy[list[bytes]]) -> None:
    """Send what the strategy makes, and hold the server to its word."""

    @fuzzed
    @given(strategy)
    def check(requests: list[bytes]) -> None:
        target.send(method, requests)

    check()
    assert target.healthy()


@pytest.mark.parametrize("method", METHODS)
def test_any_message_is_answered(target: Target, method: str) -> None:
    """Whatever its fields hold."""
    hold(target, method, any_message(method))


@pytest.mark.parametrize("method", METHODS)
def test_a_good_request_gone_bad_is_answered(target: Target, method: str) -> None:
    """A valid one with some fields changed gets further in than an arbitrary one."""
    hold(target, method, good_gone_bad(method))


@pytest.mark.parametrize("method", METHODS)
def test_any_bytes_are_answered(target: Target, method: str) -> None:
    """Noise, and good requests with a few bytes changed."""
    hold(target, method, any_bytes(method))


def test_any_upload_is_answered(target: Target) -> None:
    """A header and whatever follows it."""
    hold(target, "UploadArtifact", any_upload())


def test_any_attachment_is_answered(target: Target) -> None:
    """Bytes that begin as an image does, and go on as they like."""
    hold(target, "Generate", any_attachment())
