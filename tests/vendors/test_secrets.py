"""No API key can be read in the text of a configuration."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pydantic import ValidationError

from atelier_engines import registry
from atelier_engines.addresses import hide_secrets
from atelier_engines.errors import EngineUnavailableError
from atelier_engines.vendors.atelier import AtelierConfig
from atelier_engines.vendors.bfl.config import BflConfig
from atelier_engines.vendors.comfyui.config import ComfyuiConfig
from atelier_engines.vendors.config import AccountConfig
from atelier_engines.vendors.fal.config import FalConfig
from atelier_engines.vendors.ideogram.config import IdeogramConfig
from atelier_engines.vendors.invokeai.config import InvokeAiConfig
from atelier_engines.vendors.openai.config import OpenaiConfig
from atelier_engines.vendors.replicate.config import ReplicateConfig
from atelier_engines.vendors.runpod.config import RunpodConfig
from tests.conftest import free_port

_KEY = "an-api-key-of-the-tests"


@pytest.mark.parametrize(
    ("config", "required"),
    [
        (BflConfig, {}),
        (FalConfig, {}),
        (IdeogramConfig, {}),
        (OpenaiConfig, {}),
        (ReplicateConfig, {"model": "acme/model"}),
        (RunpodConfig, {"endpoint": "abc123xyz"}),
    ],
)
def test_the_key_shows_nowhere(config: type[AccountConfig], required: dict[str, str]) -> None:
    """Neither in its repr nor in its dump."""
    made = config.model_validate({"api_key": _KEY, **required})
    assert made.api_key.get_secret_value() == _KEY
    assert _KEY not in repr(made)
    assert _KEY not in str(made.model_dump())


_SERVER = "http://127.0.0.1:8188"


@pytest.mark.parametrize("secret", ["schlüssel", "key\n", " key", "key\u200b", ""])
@pytest.mark.parametrize(
    "build",
    [
        lambda secret: AtelierConfig.model_validate(
            {"address": "127.0.0.1:50051", "token": secret}
        ),
        lambda secret: ComfyuiConfig.model_validate(
            {"servers": [{"url": _SERVER, "headers": {"Authorization": secret}}]}
        ),
        lambda secret: InvokeAiConfig.model_validate({"email": "a@b.example", "password": secret}),
        lambda secret: BflConfig.model_validate({"api_key": secret}),
    ],
    ids=["token", "headers", "password", "key"],
)
def test_a_secret_that_cannot_be_sent_is_refused_at_the_start(
    build: Callable[[str], object], secret: str
) -> None:
    """The message says what is wrong, and does not show it."""
    with pytest.raises(ValidationError) as refused:
        build(secret)
    for error in refused.value.errors(include_input=False, include_url=False):
        assert not secret.strip() or secret.strip() not in error["msg"]


def test_a_header_may_have_spaces_inside_and_its_name_none() -> None:
    """As in `Bearer KEY`."""
    server = {"url": _SERVER, "headers": {"Authorization": "Bearer key"}}
    assert ComfyuiConfig.model_validate({"servers": [server]}).servers[0].headers
    for name in ("", "X Key", "Schlüssel", "X-Key:"):
        with pytest.raises(ValidationError):
            ComfyuiConfig.model_validate({"servers": [server | {"headers": {name: "key"}}]})


async def test_the_password_in_an_address_shows_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the error of a server that cannot be reached nor in the log."""
    caplog.set_level("DEBUG")
    url = f"http://me:{_KEY}@127.0.0.1:{free_port()}"
    comfyui = registry.load("comfyui")
    engine = comfyui.create(comfyui.config.model_validate({"servers": [{"url": url}]}))
    with pytest.raises(EngineUnavailableError) as refused:
        await engine.start()
    await engine.stop()
    assert _KEY not in str(refused.value)
    assert _KEY not in caplog.text


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@a.example:8188/b?token=secret#c", "http://a.example:8188/b"),
        ("https://[::1]:8188", "https://[::1]:8188"),
        *((same, same) for same in ("127.0.0.1:50051", "unix:/run/a@b.sock", "abc123xyz")),
    ],
)
def test_addresses_are_shown_without_secrets(address: str, shown: str) -> None:
    """Of a URL its scheme, host, port and path are left."""
    assert hide_secrets(address) == shown
