#!/usr/bin/env bash
# libsndfile writes two different Ogg files from equal samples, refuses an empty tag, and marks MP3 titles with no encoding.
#
# The serial number of an Ogg stream is drawn at random each time that a file is written, in Vorbis as in Opus, and there is
# no setting for it: a digest of the file says nothing about its samples. An empty title is an error ("bad string") in every
# format, and not "no title". The title of an MP3 is written as UTF-8 and as text of ISO-8859-1, so that readers show two
# letters for one.
#
# Versions: soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6, mutagen 1.47.0. Seen on 2026-11-28:
#   WAV PCM_16: equal files; empty title: bad string
#   FLAC PCM_16: equal files; empty title: bad string
#   OGG VORBIS: other files; empty title: bad string
#   OGG OPUS: other files; empty title: bad string
#   MP3 MPEG_LAYER_III: equal files; empty title: bad string
#   title of the MP3 as read: 'Ã©'
#
# What follows for Atelier: it numbers Ogg streams by their samples, leaves empty tags out, and writes ID3 itself
# (server/atelier_server/artifacts/audio/, tests/artifacts/audio/test_audio_files.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install soundfile==0.14.0 numpy==2.4.6 mutagen==1.47.0 2>/dev/null

env/bin/python - <<'PYTHON' | tee seen.txt
import io

import mutagen
import numpy as np
import soundfile

SAMPLES = (0.3 * np.sin(np.arange(48000) / 20)).astype(np.float32)
FORMATS = [
    ("WAV", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("OGG", "VORBIS"),
    ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"),
]


def write(container, subtype, title=None):
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", samplerate=48000, channels=1, format=container, subtype=subtype
    ) as written:
        if title is not None:
            written.title = title
        written.write(SAMPLES)
    return file.getvalue()


for container, subtype in FORMATS:
    equal = write(container, subtype) == write(container, subtype)
    try:
        write(container, subtype, "")
        empty = "accepted"
    except soundfile.LibsndfileError as error:
        empty = str(error).removeprefix("Error : ").rstrip(".")
    print(f"{container} {subtype}: {'equal' if equal else 'other'} files; empty title: {empty}")
tags = mutagen.File(io.BytesIO(write("MP3", "MPEG_LAYER_III", "\u00e9")))
print(f"title of the MP3 as read: {str(tags['TIT2'])!r}")
PYTHON
diff seen.txt - <<'SEEN'
WAV PCM_16: equal files; empty title: bad string
FLAC PCM_16: equal files; empty title: bad string
OGG VORBIS: other files; empty title: bad string
OGG OPUS: other files; empty title: bad string
MP3 MPEG_LAYER_III: equal files; empty title: bad string
title of the MP3 as read: 'Ã©'
SEEN
