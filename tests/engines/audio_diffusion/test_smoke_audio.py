"""The command that makes a clip with real weights works, with small random ones."""

from __future__ import annotations

import wave
from pathlib import Path

import pytest

from scripts import smoke_audio
from tests.engines.audio_diffusion.tiny_tangoflux import TinyTangoFlux


def test_it_makes_a_clip_and_says_what_it_is(
    tangoflux: TinyTangoFlux, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Licence, times, length and peak; the file has them too."""
    path = tmp_path / "clip.wav"
    smoke_audio.main(
        [
            *("tangoflux", "--accept-license", "--seconds", "0.3", "-o", str(path)),
            *(
                "--set",
                f"model={tangoflux.folder}",
                "--set",
                f"text_encoder={tangoflux.text_folder}",
            ),
            *("--set", "device=cpu", "--set", "steps=3"),
        ]
    )
    said = capsys.readouterr().out
    assert "non-commercial" in said
    assert "13230 frames at 44100 Hz" in said
    with wave.open(str(path), "rb") as file:
        assert (file.getnframes(), file.getnchannels()) == (13230, 2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tangoflux"], "set accept_license: true"),
        (["tango"], "no engine type 'tango'; there are atelier,"),
        (["tangoflux", "--set", "steps=many"], "steps: "),
        (["tangoflux", "--accept-license", "--set", "model=/absent"], "/absent"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments: list[str], words: str) -> None:
    """Not by a traceback."""
    with pytest.raises(SystemExit, match=words) as raised:
        smoke_audio.main([*arguments, "--set", "device=cpu", "--set", "download=false"])
    assert str(raised.value).startswith("error: ")
    assert len(str(raised.value).splitlines()) == 1
