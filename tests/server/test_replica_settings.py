"""`replicas` in the configuration: every address is validated, and what cannot have several is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from atelier_engines.wrappers.replicas import ReplicatedEngine
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.engine_settings import EngineSettings
from atelier_server.config.load import load
from atelier_server.engines.creation import create_engine


def loaded(folder: Path, section: str) -> EngineSettings:
    """The settings of one engine."""
    path = folder / "atelier.yaml"
    path.write_text(f"engines: {{shared: {{{section}}}}}")
    return load(path).engines["shared"]


@pytest.mark.parametrize(
    "section",
    [
        "type: invokeai, replicas: ['http://one:9090', 'http://two:9090']",
        "type: atelier, replicas: ['one:1', 'two:2']",
        "type: runpod, api_key: key, replicas: [abc, def]",
        "type: fal, api_key: key, replicas: ['https://one', 'https://two']",
        "type: openai, api_key: key, replicas: ['https://one', 'https://two']",
    ],
)
def test_an_engine_is_made_for_every_address(tmp_path: Path, section: str) -> None:
    """Of every type that has one."""
    engine = create_engine(loaded(tmp_path, section))
    assert isinstance(engine, ReplicatedEngine)
    assert len(engine.engines) == 2
    assert engine.capabilities.concurrency % 2 == 0


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("type: sketch, replicas: [a, b]", "the type sketch has no address"),
        ("type: comfyui, servers: [{url: 'http://a'}], replicas: [a]", "no address"),
        ("type: atelier, address: 'a:1', replicas: ['b:1']", "set either replicas or address"),
        ("type: atelier, replicas: ['b:1', 'b:1']", "names one address twice"),
        ("type: runpod, api_key: key, replicas: abc", "must be a list of values for endpoint"),
        ("type: atelier, replicas: []", "must be a list of values for address"),
        ("type: atelier, replicas: ['b:1', 'b']", "must be HOST:PORT.*not 'b'"),
    ],
)
def test_wrong_addresses_are_named(tmp_path: Path, section: str, message: str) -> None:
    """With the key."""
    with pytest.raises(ConfigurationError, match=rf"engines\.shared\.replicas: .*{message}"):
        loaded(tmp_path, section)


def test_sketches_in_place_of_engines_need_no_replicas(tmp_path: Path) -> None:
    """With `testing: true`."""
    path = tmp_path / "atelier.yaml"
    path.write_text(
        "testing: true\nengines: {shared: {type: atelier, replicas: ['one:1', 'two:2']}}"
    )
    assert load(path).engines["shared"].replicas == ()
