"""`atelier init` and `atelier serve`: configurations to begin with, options, the log, and what start-up says."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atelier_client import Client
from atelier_server.commands.init import _REQUIRED_VARIABLE, list_kinds
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.load import load
from tests.client.atelier_command import ATELIER, PLAIN, atelier
from tests.conftest import free_port, launch

KINDS = list_kinds()


def write(folder: Path, name: str, text: str) -> Path:
    """Write a file, and return its path."""
    path = folder / name
    path.write_text(text)
    return path


async def test_init_writes_a_configuration_and_says_what_to_set(tmp_path: Path) -> None:
    """It is not overwritten; there is one for every kind of engine that new users begin with."""
    made = await atelier("init", "fal", cwd=tmp_path)
    again = await atelier("init", "openai", cwd=tmp_path)
    write(tmp_path, ".env", "FAL_KEY=abc\n")
    checked = await atelier("config", "check", "atelier.yaml", cwd=tmp_path)
    assert made.out.splitlines() == [
        "wrote atelier.yaml",
        "set FAL_KEY in .env or in the environment",
        "next: atelier config check atelier.yaml; atelier serve --config atelier.yaml",
    ]
    assert (again.code, checked.code) == (2, 0)
    assert {"default", "sdxl", "lightning", "comfyui", "invokeai", "fal", "runpod"} < set(KINDS)
    assert {"vastai", "openai", "ideogram", "bfl", "cluster"} < set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_configuration_to_begin_with_is_valid(kind: str, tmp_path: Path) -> None:
    """Once `.env` has the variables that `init` names."""
    folder = Path(sys.modules["atelier_server.commands.init"].__file__ or "").parent
    text = (folder / "configurations" / f"{kind}.yaml").read_text()
    assert text.startswith("# ")
    variables = dict.fromkeys(_REQUIRED_VARIABLE.findall(text), "example.org:50051")
    variables |= {"RUNPOD_ENDPOINT": "abc123"} if kind == "runpod" else {}
    write(tmp_path, ".env", "".join(f"{name}='{value}'\n" for name, value in variables.items()))
    assert load(write(tmp_path, "atelier.yaml", text)).engines
    if variables:
        write(tmp_path, ".env", "")
        with pytest.raises(ConfigurationError, match="is not set"):
            load(tmp_path / "atelier.yaml")


def test_a_server_without_a_configuration_has_the_other_style_of_its_model(
    tmp_path: Path,
) -> None:
    """One with engines of its own has the styles that it lists."""
    assert list(load(None).styles) == ["noto"]
    path = write(tmp_path, "a.yaml", "engines: {drawn: {type: sketch}}\n")
    assert load(path).styles == {}


def test_toml_is_a_configuration_too(tmp_path: Path) -> None:
    """With the same keys and variables; the environment goes before `.env`."""
    write(tmp_path, ".env", "# where\nWHERE='/from file'\nexport HOME=/nowhere\n")
    path = write(
        tmp_path,
        "a.toml",
        'data_dir = "${WHERE}/${HOME}"\n[engines.drawn]\ntype = "sketch"\n[log]\nlevel = "error"\n',
    )
    settings = load(path)
    assert settings.data_dir == Path(f"/from file/{Path.home()}")
    assert (list(settings.engines), settings.log.level) == (["drawn"], "error")


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.toml", "engines = ", "a.toml: is not TOML: "),
        ("A.TOML", "engines = ", "A.TOML: is not TOML: "),
        ("a.yaml", "{", "a.yaml: is not YAML: "),
        (".env", "A=1\nwrong\n", ".env: line 2: must be NAME=VALUE"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    name: str, text: str, told: str, tmp_path: Path
) -> None:
    """With the reason."""
    write(tmp_path, "a.yaml", "")
    path = write(tmp_path, name, text)
    with pytest.raises(ConfigurationError) as raised:
        load(tmp_path / "a.yaml" if name == ".env" else path)
    assert told in str(raised.value)


def test_only_some_engines_are_served(tmp_path: Path) -> None:
    """Their fallbacks are limited to them; an unknown one is answered with the nearest."""
    both = {"type": "sketch", "fallbacks": ["second", "third"]}
    path = write(
        tmp_path,
        "a.yaml",
        str(
            {
                "engines": {
                    "first": both,
                    "second": both | {"fallbacks": []},
                    "third": {"type": "sketch"},
                }
            }
        ),
    )
    settings = load(path, only_engines=("first", "third"))
    assert {name: engine.fallbacks for name, engine in settings.engines.items()} == {
        "first": ("third",),
        "third": (),
    }
    with pytest.raises(ConfigurationError, match="did you mean 'first'"):
        load(path, only_engines=("frist",))


@contextmanager
def terminal_server(folder: Path, *options: str) -> Iterator[tuple[int, str]]:
    """`atelier serve` with a terminal as its stderr; yields that terminal and the address."""
    master, slave = pty.openpty()
    address = f"127.0.0.1:{free_port()}"
    command: list[str | Path] = [
        ATELIER,
        "serve",
        "--listen",
        address,
        "--metrics",
        "127.0.0.1:0",
        *options,
    ]
    process = subprocess.Popen(
        [*command, "--data-dir", folder / "data"], stderr=slave, env=PLAIN | {"TERM": "xterm"}
    )
    os.close(slave)
    try:
        yield master, address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        os.close(master)


def read_until(terminal: int, text: str) -> str:
    """What is written on the terminal, up to that text."""
    seen = ""
    while text not in seen:
        seen += os.read(terminal, 4096).decode()
    return seen


def test_a_terminal_gets_a_log_for_people_and_what_to_do_next(tmp_path: Path) -> None:
    """What is loading, where it listens, and the first commands; the options go before the configuration."""
    with terminal_server(tmp_path, "--engine", "sketch") as (terminal, address):
        seen = read_until(terminal, "atelier engines")
        with Client(address) as client:
            assert [engine.name for engine in client.capabilities().engines] == ["sketch"]
    assert f"serves on {address}; the data is in {tmp_path}/data" in seen
    assert "loading: sketch (sketch)" in seen
    assert f'atelier generate "a red apple" --server {address}' in seen
    assert "/readyz" in seen
    assert '"event"' not in seen


def test_a_file_gets_json(tmp_path: Path) -> None:
    """From the level on that the configuration says, and no words for people."""
    running = launch(tmp_path)
    running.terminate()
    lines: list[dict[str, Any]] = running.log_lines()
    assert len(lines) == len(running.log.read_text().splitlines())
    loading = [line["engine"] for line in lines if line["event"] == "engine_loading"]
    assert loading == ["sketch"]
