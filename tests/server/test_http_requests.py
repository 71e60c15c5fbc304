"""The HTTP port against requests that are wrong, large, slow, or from elsewhere; keys, TLS and the drain."""

from __future__ import annotations

import asyncio
import base64
import gzip
import http.client
import json
import signal
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from google.rpc import error_details_pb2
from pydantic import ValidationError

from atelier_server.config.settings import Settings
from tests.certificates import Authority
from tests.conftest import SKETCH, RunningServer, StartServer, free_port, launch
from tests.server.calls import eventually
from tests.server.http_calls import SERVICE, address_of, connect, envelope, write_request
from tests.server.test_audit import lines_of
from tests.server.test_auth import ALL, bearer, make_key
from tests.server.test_config import run
from tests.server.test_metrics_http import read_all

PAGE = "https://studio.example"
SMALL = 2**16


@dataclass(frozen=True, slots=True)
class Keys:
    """The callers of the server below, and its audit log."""

    audit: Path
    all: dict[str, str]
    """Headers of a caller that may do everything."""
    read: dict[str, str]
    """Of one that may only look."""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Made before the server starts, which reads the file again only from time to time."""
    file = tmp_path_factory.mktemp("keys") / "keys.json"
    every, read = (dict(bearer(make_key(file, scope))) for scope in (ALL, "read"))
    return Keys(file.with_name("audit.jsonl"), every, read)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[RunningServer]:
    """A server that wants keys, lets one page call, and has room for one request at a time."""
    running = launch(
        tmp_path_factory.mktemp("guarded"),
        http=f"127.0.0.1:{free_port()}",
        http_origins=[PAGE],
        auth={"keys": {"file": str(keys.audit.with_name("keys.json"))}},
        log={"audit": str(keys.audit)},
        limits={"max_message_bytes": SMALL, "max_receiving_bytes": SMALL},
    )
    yield running
    running.kill()


def ask(
    server: RunningServer, method: str, body: bytes, **headers: str
) -> tuple[int, dict[str, Any], http.client.HTTPMessage]:
    """Status, JSON and headers of the answer to a call."""
    connection = http.client.HTTPConnection(address_of(server), timeout=300)
    try:
        names = {"content-type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        connection.request("POST", f"/{SERVICE}/{method}", body, names)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read()), answer.headers
    finally:
        connection.close()


def exchange(server: RunningServer, data: bytes) -> bytes:
    """Everything that the server answers to these bytes."""
    with connect(address_of(server)) as connection:
        connection.sendall(data)
        return read_all(connection)


def reason_of(answer: dict[str, Any]) -> str:
    """The reason in the error's details."""
    info = error_details_pb2.ErrorInfo.FromString(decode(answer["details"][0]["value"]))
    return str(info.reason)


def decode(text: str) -> bytes:
    """Base64 without its padding, as Connect writes it."""
    return base64.b64decode(text + "==")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            b'{"image":{"promt":"x"}}',
            "image.promt: there is no such field; did you mean 'prompt'?",
        ),
        (
            b'{"image":{"controls":[{"typ":1}]}}',
            "image.controls[0].typ: there is no such field; did you mean 'type'?",
        ),
        (b'{"imagine":{}}', "imagine: there is no such field; did you mean 'image'?"),
        (b'{"image":{"prompt":5}}', "image.prompt: must be text in quotes"),
        (b'{"image":{"width":"wide"}}', "image.width: must be a whole number from 0 to 4294967295"),
        (b'{"image":{"seed":-1}}', "image.seed: must be a whole number from 0 to "),
        (b'{"image":{"num_images":1.5}}', "image.num_images: must be a whole number"),
        (b'{"image":{"guidance":"x"}}', "image.guidance: must be a number"),
        (
            b'{"image":{"controls":[{"type":"Q"}]}}',
            "image.controls[0].type: must be one of CONTROL_",
        ),
        (b'{"image":{"controls":{}}}', "image.controls: must be a list"),
        (b'{"image":{"loras":[null]}}', "image.loras[0]: must be an object"),
        (b'{"image":[]}', "image: must be an object"),
        (b'{"audio":{"duration":3}}', 'audio.duration: must be text such as "1.5s"'),
        (b'{"inlineOutputs":1}', "inlineOutputs: must be true or false"),
        (b'{"attachments":{"map":"~~~"}}', 'attachments["map"]: must be Base64'),
        (b'{"attachments":{"map":"aGVsbG8h!"}}', 'attachments["map"]: must be Base64'),
        (b'{"attachments":{"map":"aGVsb"}}', 'attachments["map"]: must be Base64'),
        (b'{"attachments":{"map":{}}}', 'attachments["map"]: must be text in quotes, in Base64'),
        (b'{"image":{"prompt":"x"},"audio":{}}', "oneof"),
        (b'{"image":{"prompt":"x","prompt":"y"}}', "prompt: is given twice in one object"),
        (b'{"image":', "request: is not JSON"),
        (b"[]", "request: must be a JSON object"),
        (b"", "request: must be a JSON object"),
        (b'{"a":"\xff"}', "request: must be UTF-8"),
        (b'{"options":' + b'{"a":' * 5000, "request: is nested too deeply"),
    ],
    ids=range(25),
)
def test_wrong_json_is_an_error_that_names_the_field(
    guarded: RunningServer, keys: Keys, body: bytes, words: str
) -> None:
    """Nothing misspelt is overlooked."""
    status, answer, _ = ask(guarded, "Generate", body, **keys.all)
    assert (status, answer["code"], reason_of(answer)) == (
        400,
        "invalid_argument",
        "INVALID_REQUEST",
    )
    assert words in answer["message"]


def test_large_messages_are_refused(guarded: RunningServer, keys: Keys) -> None:
    """With the reason and the limit, in one message and in a stream."""
    status, answer, _ = ask(guarded, "Generate", b" " * (SMALL + 1), **keys.all)
    assert (status, answer["code"], reason_of(answer)) == (429, "resource_exhausted", "TOO_LARGE")
    assert str(SMALL) in answer["message"]
    stream = envelope(b" " * (SMALL + 1))
    kind = "application/connect+json"
    told = exchange(guarded, write_request("StreamProgress", stream, kind, **keys.all))
    assert b'"code": "resource_exhausted"' in told


def test_nobody_calls_without_a_key_and_no_body_is_read_before(
    guarded: RunningServer, keys: Keys
) -> None:
    """A caller that asks before it sends is refused without having sent."""
    status, answer, _ = ask(guarded, "Generate", b"{}")
    assert (status, reason_of(answer)) == (401, "UNAUTHENTICATED")
    head, _, _ = write_request("Generate", b"x" * 100, Expect="100-continue").partition(b"xxx")
    told = exchange(guarded, head)
    assert told.startswith(b"HTTP/1.1 401 ")
    status, answer, _ = ask(guarded, "Generate", b"{}", **keys.read)
    assert (status, reason_of(answer)) == (403, "PERMISSION_DENIED")
    lines = lines_of(keys.audit)
    codes = [(line["method"], line["code"]) for line in lines]
    assert ("Generate", "UNAUTHENTICATED") in codes
    assert ("Generate", "PERMISSION_DENIED") in codes
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in lines)


@pytest.mark.parametrize(
    ("request_bytes", "status", "words"),
    [
        (b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404, b"GetCapabilities"),
        (
            f"GET /{SERVICE}/Health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode(),
            405,
            b"use POST",
        ),
        (write_request("Health", b"{}", "text/plain"), 415, b"application/json"),
        (write_request("Health", b"", "application/grpc"), 415, b"application/grpc-web"),
        (write_request("StreamProgress", b"{}"), 415, b"application/connect+json"),
        (write_request("Draw", b"{}"), 404, b"Generate"),
        (write_request("Health", b"{}", Connect_Timeout_Ms="soon"), 400, b"timeout"),
        (write_request("Health", b"{}").replace(b"localhost", b"\xff"), 400, b"UTF-8"),
        (write_request("Health", b"{}", X="x" * 20_000), 431, b"at most 16 KiB"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000, 431, b"at most 16 KiB"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400, b"Invalid HTTP request"),
        (
            f"HEAD /{SERVICE}/Health HTTP/1.1\r\nHost: localhost\r\n\r\n".encode(),
            405,
            b"allow: POST",
        ),
        # As Java's and curl's clients ask for HTTP/2; the body would not be read.
        (
            write_request("Health", b"{}").replace(
                b"Connection: close", b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c"
            ),
            400,
            b"no upgrade",
        ),
    ],
    ids=range(13),
)
def test_what_is_no_call_is_answered_in_words(
    guarded: RunningServer, request_bytes: bytes, status: int, words: bytes
) -> None:
    """With a status of HTTP, once."""
    told = exchange(guarded, request_bytes)
    assert told.startswith(b"HTTP/1.1 %d " % status)
    assert told.count(b"HTTP/1.1 ") == 1
    assert words in told


def test_only_the_configured_page_may_call(guarded: RunningServer, keys: Keys) -> None:
    """What browsers ask before a call, and what they let pages read of an answer."""
    for page, allowed in ((PAGE, PAGE), ("https://other.example", None)):
        connection = http.client.HTTPConnection(address_of(guarded), timeout=300)
        headers = {"Origin": page, "Access-Control-Request-Method": "POST"}
        connection.request("OPTIONS", f"/{SERVICE}/Health", headers=headers)
        answer = connection.getresponse()
        connection.close()
        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == allowed
        assert "connect-timeout-ms" in answer.headers["access-control-allow-headers"]
        _, _, told = ask(guarded, "Health", b"{}", origin=page, **keys.all)
        assert told["access-control-allow-origin"] == allowed


def test_slow_requests_are_given_up(guarded: RunningServer, keys: Keys) -> None:
    """Heads that do not end; and bodies, as soon as others wait for the memory that is held for them."""
    with ExitStack() as stack:
        silent, slow, body = (stack.enter_context(connect(address_of(guarded))) for _ in range(3))
        slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\n")
        head, _, _ = write_request("Generate", b"x" * SMALL, **keys.all).partition(b"xxx")
        body.sendall(head)
        over = threading.Event()
        others = threading.Thread(target=ask_until, args=(guarded, keys, over))
        others.start()
        try:
            told = read_all(body)
        finally:
            over.set()
            others.join()
        assert told.startswith(b"HTTP/1.1 429 ")
        assert b"requests that arrive now take all the memory" in told
        assert read_all(slow) == read_all(silent) == b""


def ask_until(server: RunningServer, keys: Keys, over: threading.Event) -> None:
    """Call again and again; each call wants memory."""
    while not over.is_set():
        ask(server, "Generate", b"{}", **keys.all)


def test_a_short_request_takes_little_memory(guarded: RunningServer, keys: Keys) -> None:
    """Ten that do not arrive leave room for others, where there is room for one of the largest."""
    head, _, _ = write_request("Generate", b"x" * 100, **keys.all).partition(b"xxx")
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connect(address_of(guarded))).sendall(head)
        told = ask(guarded, "Generate", b'{"image":{}}', **keys.all)
        assert (told[0], told[1]["code"]) == (400, "invalid_argument")


@pytest.mark.parametrize(
    ("call", "name", "offered"),
    [
        (("Generate", "application/json"), "Content_Encoding", b"accept-encoding"),
        (
            ("StreamProgress", "application/connect+json"),
            "Connect_Content_Encoding",
            b"connect-accept-encoding",
        ),
        (("Generate", "application/grpc-web"), "Grpc_Encoding", b"grpc-accept-encoding"),
    ],
)
def test_compressed_requests_are_not_supported(
    guarded: RunningServer, keys: Keys, call: tuple[str, str], name: str, offered: bytes
) -> None:
    """UNIMPLEMENTED, and what is supported, as the protocols say."""
    headers = {name: "gzip", **keys.all}
    told = exchange(guarded, write_request(call[0], gzip.compress(b"{}"), call[1], **headers))
    assert b"unimplemented" in told or b"grpc-status: 12" in told
    assert b"\r\n" + offered + b": identity\r\n" in told


@pytest.mark.parametrize("method", ["Health", "Generate"])
def test_a_deadline_of_0_has_passed(guarded: RunningServer, keys: Keys, method: str) -> None:
    """Also where the call would end at once."""
    status, answer, _ = ask(guarded, method, b"{}", connect_timeout_ms="0", **keys.all)
    assert (status, answer["code"], reason_of(answer)) == (
        504,
        "deadline_exceeded",
        "DEADLINE_EXCEEDED",
    )


def test_tls_serves_the_newest_certificate(start_server: StartServer, tmp_path: Path) -> None:
    """Without a restart; plain text is not answered."""
    authority = Authority()
    folder = tmp_path / "tls"
    server = start_server(http=f"127.0.0.1:{free_port()}", tls=authority.issue().write(folder))
    context = ssl.create_default_context(cadata=authority.pem.decode())
    connection = http.client.HTTPSConnection(address_of(server), timeout=300, context=context)
    connection.request("POST", f"/{SERVICE}/Health", b"{}", {"content-type": "Application/JSON"})
    assert connection.getresponse().status == 200  # the case of letters says nothing
    connection.close()
    assert b"HTTP/1.1 200" not in exchange(server, write_request("Health", b"{}"))
    newest = authority.issue()
    newest.write(folder)
    number = x509.load_pem_x509_certificate(newest.certificate).serial_number
    host, _, port = address_of(server).rpartition(":")
    while True:
        shown = ssl.get_server_certificate((host, int(port))).encode()
        if x509.load_pem_x509_certificate(shown).serial_number == number:
            break


async def test_calls_that_run_when_the_server_stops_are_told(start_server: StartServer) -> None:
    """UNAVAILABLE and when to try again, in a stream and to a call that waits; nothing is logged as an error."""
    server = start_server(
        http=f"127.0.0.1:{free_port()}",
        engines={"sketch": {"type": "sketch", "concurrency": 2}},
        drain_seconds=0.1,
    )
    task = {"image": {"prompt": "x", "width": 64, "height": 64}, "options": {"hang": True}}
    framed = envelope(json.dumps({"generate": task}).encode())
    stream = write_request("StreamProgress", framed, "application/connect+json")
    wait = write_request("Generate", json.dumps(task).encode())
    answers = [
        asyncio.create_task(asyncio.to_thread(exchange, server, one)) for one in (stream, wait)
    ]
    await eventually(lambda: count_started(server) == 2)
    assert await asyncio.to_thread(server.terminate) == 0
    for answer in await asyncio.gather(*answers):
        assert b'"code": "unavailable"' in answer
        assert b"the server is shutting down" in answer
    assert [line for line in server.log_lines() if line["level"] == "error"] == []


async def test_the_port_answers_while_the_server_drains(start_server: StartServer) -> None:
    """It stays open as long as running work has time to finish."""
    server = start_server(http=f"127.0.0.1:{free_port()}", drain_seconds=300)
    hang = write_request("Generate", b'{"image":{"prompt":"x"},"options":{"hang":true}}')
    with connect(address_of(server)) as connection:
        connection.sendall(hang)
        await eventually(lambda: count_started(server) == 1)
        server.process.send_signal(signal.SIGTERM)
        await eventually(lambda: "drain_started" in server.log.read_text())
        for _ in range(30):
            status, answer, _ = await asyncio.to_thread(ask, server, "Health", b"{}")
            assert (status, answer["status"]) == (200, "SERVING_STATUS_NOT_SERVING")


def count_started(server: RunningServer) -> int:
    """Generations that have begun to run."""
    return sum(line["event"] == "generation_started" for line in server.log_lines())


@pytest.mark.parametrize("origin", ["studio.example", "https://studio.example/", "*.example"])
def test_origins_are_those_of_browsers(origin: str) -> None:
    """Anything else would never match."""
    with pytest.raises(ValidationError, match="http_origins"):
        Settings.model_validate({"engines": SKETCH, "http_origins": [origin]})


def test_the_port_is_not_open_to_other_machines_by_mistake(tmp_path: Path) -> None:
    """As for gRPC, that needs a word of consent."""
    done = run("serve", "--http", "0.0.0.0:0", "--metrics", "127.0.0.1:0", "--data-dir", tmp_path)
    assert done.returncode == 2
    assert "http: 0.0.0.0:0 can be reached" in done.stderr
