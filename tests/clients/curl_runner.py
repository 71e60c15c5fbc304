"""Runs the cases of clients/conformance with curl alone, over Connect JSON: `python curl_runner.py FILE`.

FILE is JSON with `servers` and `cases`. Each case ends with one line of JSON on standard output: its name, and what was
wrong, which is empty if nothing was.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.rpc import error_details_pb2

Json = dict[str, Any]
_CHUNK_BYTES = 512 * 1024
_RECONNECT_SECONDS = 0.2
_UNTRUSTED = 60
"""How curl ends if it doesn't trust a certificate."""


class CallFailedError(Exception):
    """What Connect says of a call that failed."""

    def __init__(self, error: Json) -> None:
        """Keep the code, the reason and the wrong fields."""
        super().__init__(error.get("message", ""))
        self.found: Json = {"code": _name_of(error["code"]), "reason": "", "fields": []}
        for detail in error.get("details", []):
            value = base64.b64decode(detail["value"] + "==")
            if detail["type"] == "google.rpc.ErrorInfo":
                self.found["reason"] = error_details_pb2.ErrorInfo.FromString(value).reason
            elif detail["type"] == "google.rpc.BadRequest":
                bad = error_details_pb2.BadRequest.FromString(value)
                self.found["fields"] = [one.field for one in bad.field_violations]


class ConnectionLostError(Exception):
    """Curl, or the other side, has ended the stream before its end."""


def _name_of(code: str) -> str:
    """The code by gRPC's name."""
    return "CANCELLED" if code == "canceled" else code.upper()


@dataclass(frozen=True)
class Curl:
    """Calls one server."""

    address: str
    headers: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)

    def unary(self, method: str, request: Json) -> Json:
        """The answer of a call."""
        command = self._command(method, "application/json")
        ran = subprocess.run(
            command, input=json.dumps(request).encode(), capture_output=True, check=False
        )
        if ran.returncode == _UNTRUSTED:  # gRPC has no code of its own for it
            raise CallFailedError({"code": "unavailable", "message": ran.stderr.decode()})
        ran.check_returncode()
        answer: Json = json.loads(ran.stdout)
        if "code" in answer:
            raise CallFailedError(answer)
        return answer

    def stream(self, method: str, *requests: Json) -> Iterator[Json]:
        """The answers of a call; leaving them ends curl, and with it the connection."""
        command = self._command(method, "application/connect+json")
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as curl:
            assert curl.stdin is not None
            assert curl.stdout is not None
            try:
                with curl.stdin as body:
                    for request in requests:
                        text = json.dumps(request).encode()
                        body.write(struct.pack(">BI", 0, len(text)) + text)
                yield from _read(curl.stdout)
            finally:
                curl.kill()

    def _command(self, method: str, content_type: str) -> list[str]:
        headers = [f"content-type: {content_type}", "connect-protocol-version: 1", *self.headers]
        return [
            *("curl", "--silent", "--show-error", "--no-buffer", "--data-binary", "@-"),
            *(part for header in headers for part in ("--header", header)),
            *self.options,
            f"{self.address}/atelier.v1.GenerationService/{method}",
        ]


def _read(body: Any) -> Iterator[Json]:  # noqa: ANN401 (a pipe)
    while len(head := body.read(5)) == 5:
        flags, length = struct.unpack(">BI", head)
        text = body.read(length)
        if len(text) < length:
            break
        message: Json = json.loads(text)
        if not flags & 2:
            yield message
            continue
        if "error" in message:
            raise CallFailedError(message["error"])
        return
    if head.startswith(b"{"):  # a call that the server refuses before it is a stream
        raise CallFailedError(json.loads(head + body.read()))
    raise ConnectionLostError


def follow(curl: Curl, target: Json, after: int = 0) -> Generator[Json, None, None]:
    """Events of a generation, each once, also over lost connections."""
    inline = target.get("generate", {}).get("inlineOutputs", False)
    while True:
        request = {**target, "afterSequence": after, "inlineOutputs": inline}
        try:
            for event in curl.stream("StreamProgress", request):
                if event["sequence"] > after:
                    after = event["sequence"]
                    yield event
        except CallFailedError as error:
            if error.found["reason"] != "DRAINING":
                raise
        except ConnectionLostError:
            pass
        else:
            return
        time.sleep(_RECONNECT_SECONDS)


def start(curl: Curl, case: Json) -> Generator[Json, None, None]:
    """Starts the task of a case under an id of its own."""
    return follow(curl, {"generate": {"requestId": uuid.uuid4().hex, **case["request"]}})


def generate(curl: Curl, case: Json) -> Json:
    """Runs it to its end, in one call."""
    generation: Json = curl.unary("Generate", case["request"])["generation"]
    data = [base64.b64decode(output.get("data", "")) for output in generation["outputs"]]
    return {**generation, "inlineBytes": sum(map(len, data))}


def stream(curl: Curl, case: Json) -> Json:
    """Follows it to its end."""
    events = list(start(curl, case))
    sequences = [event["sequence"] for event in events]
    return {
        "state": events[-1]["generation"]["state"],
        "consecutive": sequences == list(range(1, len(sequences) + 1)),
    }


def attach(curl: Curl, case: Json) -> Json:
    """Follows an ended one from the middle on."""
    generation = curl.unary("Generate", case["request"])["generation"]
    events = follow(curl, {"generationId": generation["id"]}, after=2)
    sequences = [event["sequence"] for event in events]
    return {
        "first": sequences[0],
        "consecutive": sequences == list(range(3, len(sequences) + 3)),
    }


def leave(curl: Curl, case: Json) -> Json:
    """Leaves it once it runs, and waits for its end."""
    events = start(curl, case)
    event = next(event for event in events if event["state"] == "STATE_RUNNING")
    events.close()
    while True:
        found: Json = curl.unary("GetGeneration", {"generationId": event["generationId"]})
        if "endTime" in found["generation"]:
            return dict(found["generation"])


def cancelled(curl: Curl, case: Json) -> Json:
    """Cancels it once it runs, and asks for its outcome."""
    for event in start(curl, case):
        if event["state"] == "STATE_RUNNING":
            curl.unary("CancelGeneration", {"generationId": event["generationId"]})
    return generate(curl, case)


def transfer(curl: Curl, case: Json) -> Json:
    """A file there and back."""
    data = bytes((index * 31 + (index >> 8)) % 251 for index in range(case["size"]))
    header = {"header": {"mediaType": case["media_type"], "size": len(data)}}
    chunks = [data[at : at + _CHUNK_BYTES] for at in range(0, len(data), _CHUNK_BYTES)]
    parts = [{"chunk": base64.b64encode(chunk).decode()} for chunk in chunks]
    (stored,) = curl.stream("UploadArtifact", header, *parts)
    artifact = stored["artifact"]
    answers = curl.stream("DownloadArtifact", {"artifactId": artifact["id"]})
    back = b"".join(base64.b64decode(answer.get("chunk", "")) for answer in answers)
    if hashlib.sha256(back).hexdigest() != artifact["sha256"]:
        raise CallFailedError({"code": "data_loss", "message": "the bytes are damaged"})
    return {"size": int(artifact["size"]), "same": back == data}


CALLS: dict[str, Callable[[Curl, Json], Json]] = {
    "generate": generate,
    "stream": stream,
    "attach": attach,
    "cancel": leave,
    "cancelled": cancelled,
    "transfer": transfer,
    "download": lambda curl, case: {
        "size": len(list(curl.stream("DownloadArtifact", case["request"])))
    },
    "get": lambda curl, case: curl.unary("GetGeneration", case["request"]),
    "plan": lambda curl, case: curl.unary("PlanGeneration", case["request"]),
    "health": lambda curl, _: curl.unary("Health", {}),
}


def run(curl: Curl, case: Json) -> str:
    """What was wrong; empty if nothing was."""
    try:
        found = CALLS[case["call"]](curl, case)
    except CallFailedError as error:
        if "error" not in case:
            return f"failed: {error.found} {error}"
        return differ(case["error"], error.found, "error")
    return f"succeeded with {found}" if "error" in case else differ(case["expect"], found, "")


def differ(expected: Any, found: Any, path: str) -> str:  # noqa: ANN401 (JSON)
    """Where what was found is not what was expected, which may name less; empty if nowhere."""
    if not isinstance(expected, dict):
        return "" if expected == found else f"{path} is {found!r}, not {expected!r}"
    for key, value in expected.items():
        if isinstance(found, list):
            part = found[int(key)] if int(key) < len(found) else None
        else:
            part = (found or {}).get(key)
        if wrong := differ(value, part, f"{path}.{key}"):
            return wrong
    return ""


def connect(server: Json, case: Json, folder: Path) -> Curl:
    """The server of a case, with its key, its certificate and its time limit."""
    token = case.get("token", server.get("token", ""))
    headers = [f"authorization: Bearer {token}"] if token else []
    if "timeout_ms" in case:
        headers.append(f"connect-timeout-ms: {case['timeout_ms']}")
    options = []
    if "ca" in server:
        authorities = folder / "ca.pem"
        authorities.write_text(server["ca"])
        options = ["--cacert", str(authorities)]
    return Curl(server["http"], headers, options)


def main(file: Path) -> None:
    """All cases."""
    told = json.loads(file.read_text())
    for case in told["cases"]:
        curl = connect(told["servers"][case.get("server", "plain")], case, file.parent)
        line = json.dumps({"name": case["name"], "wrong": run(curl, case)})
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
