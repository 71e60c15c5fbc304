"""What Python prints and what a notebook shows of results, as IPython renders them."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np
import pytest
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.formatters import DisplayFormatter
from IPython.core.interactiveshell import InteractiveShell
from PIL import Image as PillowImage
from traitlets.config import Config

import atelier_client
from atelier_client import (
    AsyncClient,
    AudioTask,
    Client,
    Control,
    ControlType,
    Generation,
    ImageFormat,
    ImageTask,
    show_progress,
)
from atelier_client.errors import GenerationFailedError, NotDownloadedError
from tests.conftest import ROOT, RunningServer


@pytest.fixture(scope="module")
def made(shared_server: RunningServer) -> Generation:
    """A generation of two images."""
    with Client(shared_server.address) as client:
        return client.generate("a <red> & blue heart", width=96, height=64, seed=7, num_images=2)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[CapturingDisplayPublisher]:
    """An IPython shell; what it displays is collected."""
    without_history = Config({"HistoryManager": {"enabled": False}})
    running = InteractiveShell.instance(config=without_history, ipython_dir=str(tmp_path))
    publisher = CapturingDisplayPublisher(parent=running, shell=running)
    running.display_pub = publisher
    yield publisher
    InteractiveShell.clear_instance()


def render(value: object) -> dict[str, object]:
    """What a notebook gets of a value, by media type."""
    data, _ = DisplayFormatter().format(value)
    return dict(data)


def test_a_generation_and_its_images_are_a_line(made: Generation) -> None:
    """Without bytes, and with what tells them apart."""
    assert re.fullmatch(
        r"<Generation \w{26} succeeded 'a <red> & blue heart', engine sketch,"
        r" 96×64 PNG, seed 7, [\d.]+ (kB|bytes), 2 outputs, [\d.]+ s>",
        repr(made),
    )
    assert re.fullmatch(r"<Image 96×64 PNG, seed 8, [\d.]+ (kB|bytes)>", repr(made.images[1]))
    long = replace(made, task=ImageTask(prompt="many words " * 1000, init_image=b"\x89PNG" * 9000))
    assert len(repr(long)) < 250
    assert len(repr(long.task)) < 120
    assert repr(ImageTask(prompt="a lamp", controls=(Control(type=ControlType.DEPTH, image=b"1"),)))


def test_every_event_is_a_line(server: RunningServer) -> None:
    """Those with a preview and the last one, too."""
    with Client(server.address) as client:
        events = list(client.stream("a lamp", steps=4, preview_interval=1))
    assert any(event.preview for event in events)
    assert max(len(repr(event)) + len(repr(event.preview)) for event in events) < 250


def test_a_notebook_shows_an_image_as_what_it_is(made: Generation, server: RunningServer) -> None:
    """PNG and JPEG with their own bytes, other formats as HTML, and text for one that was not fetched."""
    assert render(made.images[0])["image/png"] == made.images[0].data
    with Client(server.address) as client:
        jpeg = client.generate("a lamp", format=ImageFormat.JPEG).images[0]
        webp = client.generate("a lamp", format=ImageFormat.WEBP).images[0]
    assert render(jpeg)["image/jpeg"] == jpeg.data
    assert base64.b64encode(webp.data).decode() in str(render(webp)["text/html"])
    missing = replace(made.images[0], content=None)
    assert set(render(missing)) == {"text/plain"}
    assert "not fetched" in repr(missing)


def test_a_notebook_shows_a_generation_as_a_contact_sheet(made: Generation) -> None:
    """All images, and the recipe with every parameter; text from outside is escaped."""
    html = made._repr_html_()
    assert html.count("<img ") == 2
    assert "a &lt;red&gt; &amp; blue heart" in html
    assert "<red>" not in html
    assert made.receipt is not None
    for parameter in made.receipt.parameters:
        assert f">{parameter.name}</th>" in html
    assert render(made)["text/html"] == html


def test_a_contact_sheet_shows_thumbnails_of_large_images(server: RunningServer) -> None:
    """So that a notebook with many stays small; a single image is shown whole."""
    with Client(server.address) as client:
        large = client.generate("noise", width=1024, height=1024, num_images=2)
    one = replace(large, outputs=large.outputs[:1])
    assert len(large._repr_html_()) < sum(len(output.data) for output in large.outputs) / 4
    assert base64.b64encode(large.images[0].data).decode() in one._repr_html_()
    unfetched = replace(large, outputs=(replace(large.outputs[0], content=None),))
    assert "client.fetch" in unfetched._repr_html_()


def test_a_notebook_plays_audio(server: RunningServer) -> None:
    """With its bytes in the page."""
    with Client(server.address) as client:
        output = client.generate(AudioTask(prompt="a tone", duration_seconds=0.1)).audio[0]
    html = str(render(output)["text/html"])
    assert html.startswith("<audio controls")
    assert base64.b64encode(output.data).decode() in html
    assert re.fullmatch(r"<Audio 0.1 s WAV, seed \d+, [\d.]+ kB>", repr(output))


def test_an_image_is_one_of_pillow_and_of_numpy(made: Generation) -> None:
    """With equal pixels."""
    output = made.images[0]
    assert isinstance(output.image, PillowImage.Image)
    assert output.image.size == (96, 64)
    assert output.array.shape == (64, 96, 3)
    assert output.array.dtype == np.uint8
    assert np.array_equal(output.array, np.asarray(output.image))
    with pytest.raises(NotDownloadedError):
        _ = replace(output, content=None).array


def test_a_notebook_shows_progress(shell: CapturingDisplayPublisher, server: RunningServer) -> None:
    """In one cell: the bar first, at the end the contact sheet in its place."""
    with Client(server.address) as client:
        made = show_progress(client.stream("a lamp", steps=3, width=64, height=64))
    assert made.images[0].data.startswith(b"\x89PNG")
    cells = {shown["transient"]["display_id"] for shown in shell.outputs}
    assert len(cells) == 1
    assert "<progress" in shell.outputs[0]["data"]["text/html"]
    assert shell.outputs[-1]["data"]["text/html"] == made._repr_html_()
    assert [shown["update"] for shown in shell.outputs] == [False] + [True] * (
        len(shell.outputs) - 1
    )


def test_a_notebook_shows_progress_with_asyncio_and_its_error(
    shell: CapturingDisplayPublisher, server: RunningServer
) -> None:
    """The text of the error stands beside the bar, and it is raised."""

    async def fail() -> None:
        async with AsyncClient(server.address) as client:
            await show_progress(client.stream("a lamp", steps=3, options={"fail": True}))

    with pytest.raises(GenerationFailedError) as raised:
        asyncio.run(fail())
    assert escape(str(raised.value)) in shell.outputs[-1]["data"]["text/html"]


def test_the_example_runs(
    shell: CapturingDisplayPublisher, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell, as a notebook runs it; the first result is the image."""
    monkeypatch.setenv("ATELIER_SERVER", server.address)
    notebook = json.loads((ROOT / "examples" / "notebook.ipynb").read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            InteractiveShell.instance().run_cell(cell["source"]).raise_error()
    InteractiveShell.instance().run_cell("client.close()")
    assert any("<progress" in shown["data"].get("text/html", "") for shown in shell.outputs)


def test_a_star_import_gives_the_public_names() -> None:
    """All of them, and no others; `dir` names the same."""
    namespace: dict[str, object] = {}
    exec("from atelier_client import *", namespace)  # noqa: S102 - a star import is only legal in a module
    assert sorted(namespace.keys() - {"__builtins__"}) == sorted(atelier_client.__all__)
    assert sorted(atelier_client.__all__) == dir(atelier_client)
