"""Configuration: what is wrong is named with its place, and nothing is served by mistake."""

from __future__ import annotations

import subprocess
from pathlib import Path

import grpc
import pytest
import yaml
from grpc import aio
from PIL import Image

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from tests.conftest import ATELIER, free_port, launch
from tests.server.calls import Stub, image_request
from tests.server.conftest import install_odd

SKETCH = {"type": "sketch"}


def run(*arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `atelier` to its end."""
    settings = [f"{name}={value}" for name, value in variables.items()]
    command = ["/usr/bin/env", *settings, ATELIER, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def checked(folder: Path, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What `atelier config check` says of that file."""
    path = folder / "atelier.yaml"
    path.write_text(text)
    return run("config", "check", path, **variables)


def test_a_good_file_is_fine(tmp_path: Path) -> None:
    """Its engines are listed, and the exit status is 0."""
    done = checked(tmp_path, "engines: {a: {type: sketch, delay_seconds: 1}, b: {type: sketch}}")
    assert done.returncode == 0
    assert "a (sketch), b (sketch)" in done.stdout


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("lissten: here", ["lissten: unknown key"]),
        ("listen: here", ["listen: ", "'here'"]),
        ("data_dir: ~nobody-here/a", ["data_dir: ", "unknown user"]),
        ("listen: 127.0.0.1:65536", ["listen: ", "0 to 65535"]),
        ("listen: '[::x]:1'", ["listen: ", "IPV6"]),
        ("metrics: '[1.2.3.4]:1'", ["metrics: ", "IPv6 address between"]),
        ("metrics: 127.0.0.1:99999", ["metrics: ", "0 to 65535"]),
        ("metrics: 'unix:'", ["metrics: ", "unix:PATH"]),
        (f"listen: unix:/{'a' * 107}", ["listen: ", "107 bytes"]),
        ("engines: {a: {type: atelier, address: 'b:65536'}}", ["engines.a.address: ", "65535"]),
        ("drain_seconds: .inf", ["drain_seconds: ", "finite"]),
        ("health_interval_seconds: .nan", ["health_interval_seconds: ", "finite"]),
        ("engines: {a: {type: sketch, delay_seconds: .inf}}", ["engines.a.delay_seconds: ", "fin"]),
        ("threads: 1\nthreads: 2", ["the key 'threads' occurs twice", "line 2"]),
        ("engines: {a: {type: sketch}, a: {type: sketch}}", ["the key 'a' occurs twice"]),
        ("a: &a [1]\nb: &b [*a, *a]\nc: [*b, *b]", ["the alias 'b' leads to another", "line 3"]),
        ("a: &a [*a]", ["the alias 'a' leads to another"]),
        ("a: " + "[" * 5000, ["nested too deeply"]),
        ("log: &a {level: info}\noutputs: *a", ["outputs.level: unknown key"]),
        ("engines: {..: {type: sketch}}", ["engines...", "pattern"]),
        ("styles: {..: {title: up}}", ["styles...", "pattern"]),
        (
            "engines: {a: {type: sketch, fallbacks: [a]}}",
            ["engines.a.fallbacks: must name other engines, not 'a' itself"],
        ),
        (
            "export: {directory: /out, template: '{id:d}_{index}'}",
            ["export.template: ", "plain fields"],
        ),
        (
            "export: {directory: /out, template: '{id:>999999999}_{index}'}",
            ["export.template: ", "plain fields"],
        ),
        (
            'export: {directory: /out, template: "{id}_{index}\\0"}',
            ["export.template: ", "NUL"],
        ),
        ("loras: {character_weights: []}", ["loras.character_weights: ", "at least 1 item"]),
        ("loras: {cinematic_weights: []}", ["loras.cinematic_weights: ", "at least 1 item"]),
        ("drain_seconds: soon", ["drain_seconds: ", "number", "'soon'"]),
        ("store: {max_attempts: 0}", ["store.max_attempts: ", "greater than or equal to 1"]),
        ("limits: {inline: 1}", ["limits.inline: unknown key"]),
        ("log: {level: loud}", ["log.level: ", "'warning'"]),
        ("engines: {}", ["engines: must name at least one"]),
        ("engines: {a: {}}", ["engines.a.type: is required"]),
        ("engines: {a: 3}", ["engines.a: ", "not 3"]),
        ("engines: [a]", ["engines: ", "dictionary"]),
        ("engines: {a b: {type: sketch}}", ["engines.a b", "pattern"]),
        (f"engines: {{{'a' * 65}: {{type: sketch}}}}", ["engines.aaa", "pattern"]),
        ("engines: {a: {type: scetch}}", ["engines.a.type: ", "'scetch'", "sketch"]),
        ("engines: {a: {type: sketch, colour: 1}}", ["engines.a.colour: unknown key"]),
        ("engines: {a: {type: sketch, fail_rate: 2}}", ["engines.a.fail_rate: ", "1", "2"]),
        (
            "engines: {a: {type: sketch, fallbacks: [b]}}",
            ["engines.a.fallbacks: no engine 'b'", "there are a"],
        ),
        ("default_engine: b\nengines: {a: {type: sketch}}", ["default_engine: no engine 'b'"]),
        ("data_dir: ${NOWHERE}", ["data_dir: the environment variable NOWHERE is not set"]),
        ("- a", ["must be a mapping"]),
        ("a: [", ["is not YAML"]),
        ("a: !!python/object:os.system {}", ["is not YAML"]),
        ("store: {type: postgres}", ["store: ", "type postgres needs a `dsn`"]),
        ("store: {dsn: db}", ["store: ", "dsn: only for type postgres; set `type: postgres`"]),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, lines: list[str]) -> None:
    """With its place and what was expected; the exit status is 2, and there is no traceback."""
    done = checked(tmp_path, text)
    assert done.returncode == 2
    for line in lines:
        assert line in done.stderr
    assert "Traceback" not in done.stderr


def test_a_problem_is_told_once(tmp_path: Path) -> None:
    """A variable that is missing twice in one value."""
    done = checked(tmp_path, "data_dir: ${NOWHERE}/${NOWHERE}")
    assert done.stderr.count("the environment variable NOWHERE is not set") == 1


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("data: /var/lib/atelier", "data: is now data_dir"),
        ("filing: {directory: /out}", "filing: is now export"),
        ("store: {time_to_live_seconds: 60}", "store.time_to_live_seconds: is now retention_sec"),
        ("limits: {message_bytes: 65536}", "limits.message_bytes: is now max_message_bytes"),
        ("limits: {inline_bytes: 1}", "limits.inline_bytes: is now max_inline_bytes"),
        ("limits: {upload_bytes: 1}", "limits.upload_bytes: is now max_upload_bytes"),
        ("limits: {input_pixels: 1}", "limits.input_pixels: is now max_input_pixels"),
        (
            "limits: {concurrent_streams: 1}",
            "limits.concurrent_streams: is now max_concurrent_streams",
        ),
        (
            "engines: {a: {type: sketch, cache_bytes: 1}}",
            "engines.a.cache_bytes: is now result_cache_bytes",
        ),
        (
            "engines: {a: {type: sketch, breaker: {faults: 1, rest_seconds: 2}}}",
            "engines.a.breaker.rest_seconds: is now reset_timeout_seconds",
        ),
    ],
)
def test_a_renamed_key_is_refused_with_its_new_name(tmp_path: Path, text: str, line: str) -> None:
    """At the top, in a section, in an engine, and in a section of an engine."""
    done = checked(tmp_path, text)
    assert done.returncode == 2
    assert line in done.stderr


def test_a_renamed_key_hides_no_other_error(tmp_path: Path) -> None:
    """Of its section or of another, each with its own path."""
    text = "limits: {input_pixels: 1, upload_bytes: 2, max_inline_bytes: -1, x: 1}\nfiling: {}\nthreads: 0"
    lines = checked(tmp_path, text).stderr.splitlines()
    assert [line.rpartition("atelier.yaml: ")[2].partition(":")[0] for line in lines] == [
        "threads",
        "limits.max_inline_bytes",
        "limits.input_pixels",
        "limits.upload_bytes",
        "limits.x",
        "filing",
    ]


@pytest.mark.parametrize("text", ["${NAME }", "${ NAME}", "${}", "${NAME", "${1}", "${A:=b}"])
def test_what_only_looks_like_a_variable_is_refused(tmp_path: Path, text: str) -> None:
    """Rather than taken as text; the error says how to write both."""
    done = checked(tmp_path, f"default_engine: 'a{text}'", NAME="sketch")
    assert done.returncode == 2
    assert "default_engine: a ${ in it begins no variable; write ${NAME}" in done.stderr
    escaped = checked(tmp_path, f"styles: {{a: {{prompt_prefix: '${text}'}}}}")
    assert escaped.returncode == 0, escaped.stderr


def test_home_is_expanded_in_every_path(tmp_path: Path) -> None:
    """In the default data directory, in that of the exports, and in an engine's."""
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    (home / "album").mkdir(parents=True)
    Image.new("RGB", (32, 32), "red").save(home / "album" / "red.png")
    cwd.mkdir()
    settings = {
        "listen": f"127.0.0.1:{free_port()}",
        "metrics": None,
        "export": {"directory": "~/out"},
        "engines": {"album": {"type": "sketch", "image_directory": "~/album"}},
    }
    path = tmp_path / "atelier.yaml"
    path.write_text(yaml.safe_dump(settings))
    command: list[str | Path] = [
        *("/usr/bin/env", "-C", cwd, f"HOME={home}"),
        *(ATELIER, "serve", "--config", path),
    ]
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        try:
            with grpc.insecure_channel(str(settings["listen"])) as channel:
                grpc.channel_ready_future(channel).result(300)
                made = GenerationServiceStub(channel).Generate(
                    image_request(engine="album"), timeout=300
                )
                assert made.generation.engine == "album"
        finally:
            process.kill()
    assert list(cwd.iterdir()) == []
    assert (home / ".local/share/atelier/atelier.db").exists()
    assert len([found for found in (home / "out").rglob("*") if found.is_file()]) == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "role: gateway",
            "role: gateway needs a database that several servers share: set store.type",
        ),
        ("role: worker\nengines: {a: {type: sketch}}", "role: worker needs a database"),
        (
            "role: gateway\nstore: {type: postgres, dsn: x}",
            "role: gateway needs artifacts that every server can read: set artifacts.type: s3",
        ),
        ("role: watcher", "role: "),
        (
            "role: worker\nengines: {}\nstore: {type: postgres, dsn: x}\nartifacts: {type: s3, bucket: abc}",
            "engines: must name at least one engine",
        ),
    ],
)
def test_a_role_needs_what_servers_share(tmp_path: Path, text: str, told: str) -> None:
    """The message says what to set."""
    found = checked(tmp_path, text)
    assert found.returncode == 2
    assert told in found.stderr
    assert "Value error" not in found.stderr


def test_roles_of_one_file_need_only_what_they_use(tmp_path: Path) -> None:
    """A gateway needs no keys of engines; both may name engines that other servers run."""
    shared = (
        "store: {type: postgres, dsn: x}\nartifacts: {type: s3, bucket: abc}\ndefault_engine: far\n"
        "routing_rules: [{words: [a], engine: far}]\n"
    )
    engines = "engines: {paid: {type: fal, api_key: '${NO_SUCH_KEY}'}}\n"
    assert checked(tmp_path, f"role: gateway\n{shared}{engines}").returncode == 0
    assert "NO_SUCH_KEY" in checked(tmp_path, f"role: worker\n{shared}{engines}").stderr
    own = "engines: {near: {type: sketch, fallbacks: [far]}}\n"
    assert checked(tmp_path, f"role: worker\n{shared}{own}").returncode == 0


def test_a_renamed_flag_is_refused(tmp_path: Path) -> None:
    """The error names the new flag."""
    done = run("serve", "--data", tmp_path)
    assert done.returncode == 2
    assert "--data-dir" in done.stderr


def test_what_may_be_a_key_is_never_printed(tmp_path: Path) -> None:
    """A key of the wrong shape is named by its place, not by its value."""
    engine = "{type: bfl, api_key: [my-secret], poll_seconds: no-number}"
    done = checked(tmp_path, f"engines: {{a: {engine}}}")
    assert done.returncode == 2
    assert "engines.a.api_key" in done.stderr
    assert "my-secret" not in done.stderr
    assert "no-number" in done.stderr
    done = checked(tmp_path, "engines: {a: {type: bfl, api_key: my-sécret}}")
    assert "beyond ASCII" in done.stderr
    assert "my-s" not in done.stderr


def test_a_section_that_is_wrong_as_a_whole_is_not_repeated(tmp_path: Path) -> None:
    """Its keys may be secrets: here a machine is rented for neither of two things."""
    limits = "label: a, max_price_per_hour: 1, spending_cap: 1"
    done = checked(tmp_path, f"engines: {{a: {{type: vastai, api_key: my-secret, {limits}}}}}")
    assert "engines.a: " in done.stderr
    assert "set either image or template" in done.stderr
    assert "my-secret" not in done.stderr


def test_everything_wrong_is_named_at_once(tmp_path: Path) -> None:
    """One line a problem."""
    done = checked(tmp_path, "lissten: 1\nengines: {a: {type: sketch, x: 1, fail_rate: -1}}")
    assert len(done.stderr.strip().splitlines()) == 3


def test_money_of_a_tenant_has_one_currency(tmp_path: Path) -> None:
    """Costs of several are not added up."""
    engine = "{{type: openai, api_key: k, price: {{amount: 1, currency: {}}}}}"
    engines = f"engines: {{a: {engine.format('EUR')}, b: {engine.format('USD')}}}"
    limited = f"tenant_defaults: {{daily_budget: 5}}\n{engines}"
    assert checked(tmp_path, engines).returncode == 0
    done = checked(tmp_path, limited)
    assert done.returncode != 0
    assert "EUR (a), USD (b): state them in one currency" in done.stderr
    assert checked(tmp_path, limited.replace("EUR", "USD")).returncode == 0


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    """And so is a file that is not there."""
    path = tmp_path / "atelier.yaml"
    for data in (b"\xff\xfe\x00a", b"\x00", b"a: \x80"):
        path.write_bytes(data)
        done = run("config", "check", path)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
    done = run("serve", "--config", tmp_path / "nowhere.yaml")
    assert done.returncode == 2
    assert "nowhere.yaml: No such file" in done.stderr


POSTGRES = "store: {type: postgres, dsn: postgresql://me@here/it}"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ("limits: {max_inline_bytes: 3670016}", []),
        (
            "limits: {max_inline_bytes: 3670017}",
            ["limits.max_inline_bytes: 3670017", "4194304 bytes"],
        ),
        ("limits: {max_message_bytes: 400000}", ["limits.max_message_bytes: 400000", "512 KiB"]),
        (
            "limits: {max_decoding_bytes: 20000000}",
            ["limits.max_decoding_bytes: ", "than 1000000 pixels"],
        ),
        (POSTGRES, ["artifacts.type: directory", "store.type is postgres"]),
        (f"{POSTGRES}\nartifacts: {{type: s3, bucket: abc}}", []),
    ],
)
def test_what_will_surprise_callers_is_a_warning(
    tmp_path: Path, settings: str, words: list[str]
) -> None:
    """The file is valid all the same."""
    done = checked(tmp_path, settings)
    assert done.returncode == 0, done.stderr
    assert "valid; engines" in done.stdout
    assert len(done.stderr.strip().splitlines()) == bool(words)
    assert all(word in done.stderr for word in words)


async def test_a_default_client_receives_every_answer_that_is_not_warned_of(
    tmp_path: Path,
) -> None:
    """With inline outputs up to the limit, and all else in the answer as long as it may be."""
    size = 3670016
    server = launch(
        tmp_path,
        engines={"sketch": {"type": "sketch", "output_bytes": size}},
        limits={"max_inline_bytes": size},
    )
    try:
        async with aio.insecure_channel(server.address) as channel:
            stub: Stub = GenerationServiceStub(channel)
            long = "\U0001f3e0" * 2000
            request = image_request(long, task={"negative_prompt": long}, inline_outputs=True)
            answer = await stub.Generate(request)
            assert len(answer.generation.outputs[0].data) == size
            asked = pb.StreamProgressRequest(
                generation_id=answer.generation.id, inline_outputs=True
            )
            events = [event async for event in stub.StreamProgress(asked)]
            assert len(events[-1].generation.outputs[0].data) == size
    finally:
        server.kill()


async def test_the_environment_fills_in(tmp_path: Path) -> None:
    """A variable, a default, an empty one, and a dollar; numbers too."""
    site = install_odd(tmp_path / "site")
    server = launch(
        tmp_path,
        environment={"ENGINE": "brush", "LIMIT": "7", **site},
        wait=["brush"],
        default_engine="${ENGINE}",
        engines={"brush": {"type": "${KIND:-sketch}", "queue_limit": "${LIMIT:-9}"}},
        limits={"max_upload_bytes": "${UPLOAD:-1234}"},
        data_dir=f"{tmp_path}/${{EMPTY:-}}$$",
    )
    try:
        async with aio.insecure_channel(server.address) as channel:
            stub: Stub = GenerationServiceStub(channel)
            found = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert (found.default_engine, found.max_upload_bytes) == ("brush", 1234)
        assert (tmp_path / "$" / "atelier.db").exists()
    finally:
        server.kill()
