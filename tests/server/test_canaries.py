"""Secrets and paths of the configuration are in nothing that the server puts out."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc import aio

from atelier.v1 import generation_service_pb2 as pb
from atelier.v1.engine_pb2 import ENGINE_STATE_LOADING
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier_server.config.artifact_settings import ArtifactSettings
from atelier_server.config.configuration_files import ConfigurationError
from atelier_server.config.load import load
from atelier_server.config.security_settings import JwtSettings
from atelier_server.config.store_settings import StoreSettings
from tests.certificates import Authority
from tests.conftest import StartServer, free_port
from tests.server.calls import Stub, audio_request, eventually, image_request
from tests.server.planting import Garden, list_settings
from tests.server.test_auth import bearer, make_key
from tests.server.test_metrics import fetch
from tests.server.test_tokens import KEYS, RSA, sign
from tests.server.test_tracing import Receiver, receiver, variables

__all__ = ["receiver"]

WORKFLOW: Mapping[str, Any] = {"workflows": {"txt2img": {}}}
GIVEN: Mapping[str, Any] = {
    "auth": {"jwt": {"issuer": "https://id.test", "audience": "atelier"}},
    "tls": {"client_certificates": "required"},
    "health_interval_seconds": 1,
    "log": {"level": "debug"},
    "engines": {
        "atelier": {"address": "127.0.0.1:9", "tls": True},
        "comfyui": WORKFLOW,
        "fal": {"comfy": {"endpoint": "acme/comfy", **WORKFLOW}},
        "invokeai": {"email": "a@b.example"},
        "replicate": {"model": "acme/model"},
        "runpod": {"endpoint": "abc123", **WORKFLOW},
        "vastai": {
            "label": "here",
            "max_price_per_hour": 1.0,
            "spending_cap": 1.0,
            "image": "atelier:1",
            "worker": {"tls": True},
        },
    },
}
"""What the settings that get canaries need beside them."""
OTHERS = ("auth.jwt.jwks_url", "artifacts")
"""What a second server has, instead of what the first one has in its place."""
DATABASE = "store.dsn"
"""What a third server has."""


@dataclass(slots=True)
class Outputs:
    """All that a server has put out, by where."""

    texts: dict[str, str] = field(default_factory=dict)

    def find(self, canaries: Mapping[str, object], *besides: str) -> list[tuple[str, str]]:
        """Each canary that can be read, with the place where; `besides` some places."""
        return [
            (setting, place)
            for place, text in self.texts.items()
            if place not in besides
            for setting, canary in canaries.items()
            if Path(str(canary)).name in text
        ]


def plant_first(folder: Path) -> tuple[Garden, dict[str, Any]]:
    """The garden of the first server, and its configuration."""
    host = f"127.0.0.1:{free_port()}"
    garden = Garden(folder=folder, host=host, without=(*OTHERS, DATABASE))
    return garden, garden.plant_all(GIVEN)


def plant_second(folder: Path) -> tuple[Garden, dict[str, Any]]:
    """The same for the second one, which has keys of an address and a bucket, neither of which answers."""
    host, without = f"127.0.0.1:{free_port()}", ["auth.jwt.jwks_file"]
    garden = Garden(folder=folder, host=host, scheme="https", without=without)
    jwt = {**GIVEN["auth"]["jwt"]}
    made = {
        "auth": {"jwt": garden.plant(JwtSettings, jwt, "auth.jwt")},
        "artifacts": garden.plant(ArtifactSettings, {"type": "s3", "bucket": "abc"}, "artifacts"),
    }
    return garden, made


def plant_third(folder: Path) -> tuple[Garden, dict[str, Any]]:
    """The same for the third one, whose database does not answer."""
    form = f"postgresql://me:{{}}@127.0.0.1:{free_port()}/none"
    garden = Garden(folder=folder, host="127.0.0.1:9", forms={DATABASE: form})
    return garden, {"store": garden.plant(StoreSettings, {"type": "postgres"}, "store")}


def write_files(garden: Garden, authority: Authority) -> str:
    """Write the files that the server needs to start; returns a key of a caller."""
    paths = garden.paths
    pair = authority.issue().write(garden.folder / "made")
    shutil.copy(pair["certificate"], paths["tls.certificate"])
    shutil.copy(pair["key"], paths["tls.key"])
    paths["tls.client_ca"].write_bytes(authority.pem)
    paths["auth.jwt.jwks_file"].write_text(json.dumps({"keys": KEYS}))
    templates = files("atelier_engines.workflows") / "templates"
    for setting, path in paths.items():
        suffix = {"graph": ".json", "bindings": ".bindings.json"}.get(setting.rpartition(".")[2])
        if suffix is not None:
            with as_file(templates / f"sdxl_txt2img{suffix}") as template:
                shutil.copy(template, path)
    return make_key(paths["auth.keys.file"], "generate,read,cancel,admin")


async def provoke(stub: Stub, caller: tuple[tuple[str, str], ...], outputs: Outputs) -> None:
    """Call every method in ways that fail, and collect what is answered."""

    async def call(name: str, made: Any) -> Any:  # noqa: ANN401 (calls of every kind)
        try:
            answer = [event async for event in made] if hasattr(made, "__aiter__") else await made
        except aio.AioRpcError as error:
            answer = f"{error.details()} {error.initial_metadata()} {error.trailing_metadata()}"
        outputs.texts[name] = f"{outputs.texts.get(name, '')}{answer}"
        return answer

    capabilities = await call(
        "capabilities", stub.GetCapabilities(pb.GetCapabilitiesRequest(), metadata=caller)
    )
    for engine in (described.name for described in capabilities.engines):
        image, audio = image_request(engine=engine), audio_request(engine=engine)
        for request in (image, audio):
            planned = pb.PlanGenerationRequest(generate=request)
            await call("plan", stub.PlanGeneration(planned, metadata=caller))
        await call("generate", stub.Generate(image, metadata=caller))
        followed = pb.StreamProgressRequest(generate=audio)
        await call("stream", stub.StreamProgress(followed, metadata=caller))
    for name in ("0" * 26, "canary", "../../etc/passwd"):
        asked = pb.GetGenerationRequest(generation_id=name)
        await call("get", stub.GetGeneration(asked, metadata=caller))
        wanted = pb.DownloadArtifactRequest(artifact_id=name)
        await call("download", stub.DownloadArtifact(wanted, metadata=caller))
    await call("list", stub.ListGenerations(pb.ListGenerationsRequest(), metadata=caller))
    await call("health", stub.Health(pb.HealthRequest(), metadata=caller))
    await call("refused", stub.Health(pb.HealthRequest(), metadata=bearer("nobody.knows")))
    await call("refused", stub.Health(pb.HealthRequest(), metadata=bearer("e30.e30.e30")))


def test_every_secret_and_every_path_has_a_canary(tmp_path: Path) -> None:
    """A new setting fails here until one of these servers has it, or an engine of its type."""
    planted = set[str]()
    for plant in (plant_first, plant_second, plant_third):
        garden, _ = plant(tmp_path)
        planted |= garden.settings
    assert planted == list_settings()
    assert len(planted) > 50


def test_no_secret_is_in_a_loaded_configuration_or_in_its_errors(tmp_path: Path) -> None:
    """Neither in the text of the settings, nor where a section has a fault."""
    path = tmp_path / "atelier.yaml"
    for plant in (plant_first, plant_second, plant_third):
        garden, made = plant(tmp_path)
        if plant is plant_first:
            write_files(garden, Authority())
        path.write_text(yaml.safe_dump({"engines": {"sketch": {"type": "sketch"}}, **made}))
        settings = load(path)
        outputs = Outputs({"repr": repr(settings), "dump": f"{settings.model_dump()}"})
        for broken in break_sections(made):
            path.write_text(yaml.safe_dump(broken))
            with pytest.raises(ConfigurationError) as refused:
                load(path)
            outputs.texts["errors"] = f"{outputs.texts.get('errors', '')}{refused.value}"
        assert outputs.find(garden.secrets) == []


def break_sections(made: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration with an unknown key in each of its sections, and with text in the place of each."""
    for name, section in made.items():
        if isinstance(section, dict):
            for inner in ({}, *({key: 0} for key in section if isinstance(section[key], dict))):
                yield {**made, name: {**section, **inner, "unknown": 1}}
            yield {**made, name: json.dumps(section)}


async def test_no_secret_and_no_path_is_in_what_a_server_puts_out(
    start_server: StartServer, receiver: Receiver, tmp_path: Path
) -> None:
    """With every setting that has one: answers, errors, log, audit log, metrics, health and traces."""
    garden, made = plant_first(tmp_path)
    authority = Authority()
    key = write_files(garden, authority)
    server = start_server(wait=False, environment=variables(receiver), **made)
    outputs = Outputs()
    channel = authority.credentials(authority.issue())
    async with aio.secure_channel(server.address, channel) as connected:
        stub: Stub = GenerationServiceStub(connected)
        await wait_until_settled(stub, bearer(key))
        await provoke(stub, bearer(key), outputs)
    for page in ("/metrics", "/healthz", "/readyz", "/nowhere"):
        outputs.texts[page] = str(await asyncio.to_thread(fetch, server, page))
    garden.paths["tls.key"].write_text("damaged")
    garden.paths["auth.keys.file"].write_text("damaged")
    await eventually(lambda: server.log.read_text().count("files_not_reloaded") >= 2)
    assert await asyncio.to_thread(server.terminate) == 0
    outputs.texts["audit"] = garden.paths["log.audit"].read_text()
    outputs.texts["traces"] = b"".join(receiver.bodies).decode(errors="replace")
    outputs.texts["log"] = server.log.read_text()
    assert outputs.find(garden.secrets) == []
    told = {name: path for name, path in garden.paths.items() if name != "export.directory"}
    assert outputs.find(told, "log") == []  # outputs say where their copies are


async def test_no_secret_is_in_what_a_server_says_of_its_bucket_and_its_provider(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Neither answers."""
    garden, made = plant_second(tmp_path)
    server = start_server(wait=False, log={"level": "debug"}, **made)
    outputs = Outputs()
    await eventually(lambda: "storage_failed" in server.log.read_text())
    async with aio.insecure_channel(server.address) as connected:
        stub: Stub = GenerationServiceStub(connected)
        token = bearer(sign(RSA, "RS256", "rsa"))
        with pytest.raises(aio.AioRpcError) as refused:
            await stub.Health(pb.HealthRequest(), metadata=token, wait_for_ready=True)
    outputs.texts["answer"] = f"{refused.value.details()} {refused.value.trailing_metadata()}"
    for page in ("/metrics", "/readyz"):
        outputs.texts[page] = str(await asyncio.to_thread(fetch, server, page))
    outputs.texts["log"] = server.log.read_text()
    assert outputs.find(garden.secrets) == []


async def test_no_secret_is_in_what_a_server_says_of_its_database(
    start_server: StartServer, tmp_path: Path
) -> None:
    """Which does not answer."""
    garden, made = plant_third(tmp_path)
    server = start_server(wait=False, log={"level": "debug"}, **made)
    await eventually(
        lambda: server.process.poll() is not None or "database" in server.log.read_text()
    )
    outputs = Outputs({"log": server.log.read_text()})
    assert outputs.texts["log"] != ""
    assert outputs.find(garden.secrets) == []


async def wait_until_settled(stub: Stub, caller: tuple[tuple[str, str], ...]) -> None:
    """Wait until no engine loads any more."""
    asked = pb.HealthRequest()
    while True:
        try:
            health = await stub.Health(asked, metadata=caller, wait_for_ready=True)
        except aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:  # it starts
                raise
            continue
        if all(engine.state != ENGINE_STATE_LOADING for engine in health.engines):
            return
        await asyncio.sleep(0.05)
