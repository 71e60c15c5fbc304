"""What ffmpeg and sox read in audio files."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import imageio_ffmpeg
import numpy as np
from numpy.typing import NDArray

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
SOX = shutil.which("sox")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A file as ffmpeg decodes it."""

    array: NDArray[np.float32]
    """(samples, channels)."""
    sample_rate: int
    codec: str
    tags: Mapping[str, str]


def hear(path: Path) -> Heard:
    """All samples, at the rate and with the channels of the file, and its tags."""
    told = "".join(
        run("-i", path, *where, "-f", "ffmetadata", "-").stdout.decode()
        for where in ((), ("-map_metadata", "0:s:a:0"))  # Ogg has the tags of the stream
    )
    about = run("-i", path, "-map", "0:a", "-f", "f32le", "-c:a", "pcm_f32le", "-")
    stream = re.search(
        r"Stream #0:0.*?: Audio: (\w+).*?, (\d+) Hz, ([\w.]+)",
        about.stderr.decode(errors="replace"),
    )
    assert stream is not None
    channels = {"mono": 1, "stereo": 2}[stream[3]]
    samples = np.frombuffer(about.stdout, np.float32).reshape(-1, channels)
    pairs = (line.partition("=") for line in re.split(r"(?<!\\)\n", told))
    tags = {
        name.lower(): re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for name, _, value in pairs
    }
    return Heard(array=samples, sample_rate=int(stream[2]), codec=stream[1], tags=tags)


def measure(path: Path) -> tuple[float, float]:
    """Integrated loudness in LUFS and true peak in dBTP, by ffmpeg's ebur128."""
    told = run("-i", path, "-af", "ebur128=peak=true", "-f", "null", "-").stderr.decode()
    summary = told[told.rindex("Summary:") :]
    loudness = re.search(r"I:\s+(-?[\d.]+|-inf) LUFS", summary)
    peak = re.search(r"Peak:\s+(-?[\d.]+|-inf) dBFS", summary)
    assert loudness is not None
    assert peak is not None
    return float(loudness[1]), float(peak[1])


def ask_sox(path: Path, option: str) -> str:
    """What `sox --info` says of a file."""
    command = [str(SOX), "--info", option, str(path)]
    told = subprocess.run(command, capture_output=True, check=True)
    return told.stdout.decode().strip()


def run(*arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Run ffmpeg."""
    command = [FFMPEG, "-hide_banner", "-nostdin", "-nostats", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, check=True)
