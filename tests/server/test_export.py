"""Outputs filed under readable names."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from urllib.parse import urlparse

import grpc
import pytest
from pydantic import ValidationError

from atelier.v1.artifact_pb2 import Artifact
from atelier.v1.generation_pb2 import Generation, Output
from atelier.v1.generation_service_pb2 import GenerateRequest
from atelier.v1.generation_service_pb2_grpc import GenerationServiceStub
from atelier.v1.task_pb2 import IMAGE_FORMAT_JPEG, ImageTask
from atelier_server.artifacts.export import OutputExporter
from atelier_server.config.settings import ExportSettings
from tests.conftest import StartServer


def test_outputs_are_filed_by_style_time_and_id(start_server: StartServer, tmp_path: Path) -> None:
    """Each output lies a second time under the template's path, and the record says where."""
    server = start_server(
        export={"directory": str(tmp_path / "filed"), "sidecar": True},
        styles={"noir": {"title": "Film Noir!", "prompt_suffix": ", black and white"}},
    )
    task = ImageTask(
        prompt="a cat", width=64, height=64, num_images=2, style="noir", format=IMAGE_FORMAT_JPEG
    )
    with grpc.insecure_channel(server.address) as channel:
        answer = GenerationServiceStub(channel).Generate(
            GenerateRequest(image=task, inline_outputs=True), timeout=300
        )
    filed = sorted((tmp_path / "filed").rglob("*.jpg"))
    names = [str(path.relative_to(tmp_path / "filed")) for path in filed]
    short = answer.generation.id[-8:]
    for index, name in enumerate(names):
        assert re.fullmatch(rf"noir_film_noir/generated_\d{{8}}_\d{{6}}_{short}_{index}\.jpg", name)
    assert [path.read_bytes() for path in filed] == [
        output.data for output in answer.generation.outputs
    ]
    assert [Path(urlparse(output.uri).path) for output in answer.generation.outputs] == filed
    for path, output in zip(filed, answer.generation.outputs, strict=True):
        record = json.loads(path.with_name(f"{path.name}.json").read_text())
        assert (record["style_id"], record["style_title"]) == ("noir", "Film Noir!")
        assert record["time"] == answer.generation.create_time.ToJsonString()
        assert (record["seed"], record["parameters"]["num_images"]) == (output.seed, 2)
        assert record["sha256"] == hashlib.sha256(output.data).hexdigest()
        assert b"Film Noir!" in output.data


@pytest.mark.parametrize(
    ("request_id", "folder"),
    [("job-7.a", "job-7.a"), ("..", "_."), (".hidden", "_hidden"), ("a:b", "a_b")],
)
async def test_a_request_id_names_directories_below_the_one_of_exports(
    tmp_path: Path, request_id: str, folder: str
) -> None:
    """Whatever its caller chose, the file stays there; `/` of the template begins a directory."""
    settings = ExportSettings(
        directory=tmp_path, template="{engine}/{request_id}/{id}_{index}.{ext}"
    )
    exporter = OutputExporter(settings=settings, styles={})
    generation = Generation(id="1", request_id=request_id, engine="tiny")
    output = Output(artifact=Artifact(media_type="image/png"))
    path = await exporter.export(generation, output, 0, b"png")
    assert path == tmp_path / "tiny" / folder / "1_0.png"
    assert path.resolve().read_bytes() == b"png"


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{id}", "overwrite each other"),
        ("{id}_{index}/{secret}", "secret"),
        ("{style_id}.png", "overwrite each other"),
        ("{request_id}_{index}", "overwrite each other"),
        ("../{id}_{index}", "relative path"),
        ("/{id}_{index}", "relative path"),
    ],
)
def test_a_template_that_cannot_work_is_refused(template: str, complaint: str) -> None:
    """What is wrong is said when the configuration is read, not when an image is lost."""
    with pytest.raises(ValidationError, match=complaint):
        ExportSettings(directory=Path(), template=template)
