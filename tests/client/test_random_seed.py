"""The seed -1, which other tools have for a random one."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from atelier_client import AudioTask, ImageTask
from atelier_client.cli.app import atelier
from atelier_client.errors import ServerUnreachableError
from atelier_client.requests import build_request, request_to_pb


@pytest.mark.parametrize("task", [ImageTask(prompt="a", seed=-1), AudioTask(prompt="a", seed=-1)])
def test_the_server_draws_the_seed(task: ImageTask | AudioTask) -> None:
    """It is not sent; 0 is a seed."""
    message = request_to_pb(build_request(task, {}), {})
    sent = message.image if isinstance(task, ImageTask) else message.audio
    assert not sent.HasField("seed")
    zero = request_to_pb(build_request(ImageTask(prompt="a", seed=0), {}), {})
    assert zero.image.HasField("seed")


def test_the_command_line_takes_it() -> None:
    """As no seed; smaller ones are refused, before a server is asked."""
    arguments = ["plan", "a", "--server", "127.0.0.1:1", "--seed"]
    unreachable = CliRunner().invoke(atelier, [*arguments, "-1"], standalone_mode=False)
    assert isinstance(unreachable.exception, ServerUnreachableError)
    refused = CliRunner().invoke(atelier, [*arguments, "-2"])
    assert "-2 is not in the range x>=-1" in refused.output
