#!/usr/bin/env bash
# libsndfile reads an Opus file whose header states no input rate as audio of 8 kHz, and so loses what lies above 4 kHz.
#
# RFC 7845, 5.1: the input sample rate of the identification header is metadata, and 0 means that it is not stated; a
# decoder should then use 48 kHz. libsndfile decodes at the least rate that is not below the stated one: 8 kHz for 0.
# Files of which encoders know no input rate come so. The length in seconds is right, so nothing else tells.
#
# Versions: soundfile 0.14.0 (libsndfile 1.2.2), numpy 2.4.6. Seen on 2026-11-28:
#   states 48000 Hz: read at 48000 Hz, 48000 samples, level of the tone at 10 kHz 0.21
#   states 44100 Hz: read at 48000 Hz, 48000 samples, level of the tone at 10 kHz 0.21
#   states 0 Hz: read at 8000 Hz, 8000 samples, level of the tone at 10 kHz 0.00
#
# What follows for Atelier: it reads such files at 48 kHz (server/atelier_server/artifacts/audio/ogg.py,
# tests/artifacts/audio/test_reading.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install soundfile==0.14.0 numpy==2.4.6 2>/dev/null

env/bin/python - <<'PYTHON' | tee seen.txt
import io
import struct

import numpy as np
import soundfile

TONE = (0.3 * np.sin(2 * np.pi * 10000 * np.arange(48000) / 48000)).astype(np.float32)


def checksum(page):
    """Of an Ogg page: a CRC of 32 bits with the polynomial 0x04c11db7, from the highest bit, starting at 0."""
    value = 0
    for byte in page:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1) ^ (0x04C11DB7 if value & 0x80000000 else 0)
            value &= 0xFFFFFFFF
    return value


def state_rate(data, rate):
    """The same file, whose first page states this input rate."""
    segments = data[26]
    end = 27 + segments + sum(data[27 : 27 + segments])
    page = bytearray(data[:end])
    place = page.index(b"OpusHead") + 12
    page[place : place + 4] = struct.pack("<I", rate)
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", checksum(page))
    return bytes(page) + data[end:]


file = io.BytesIO()
soundfile.write(file, TONE, 48000, format="OGG", subtype="OPUS")
for rate in (48000, 44100, 0):
    samples, read = soundfile.read(io.BytesIO(state_rate(file.getvalue(), rate)))
    level = np.sqrt(np.mean(samples**2))
    print(
        f"states {rate} Hz: read at {read} Hz, {len(samples)} samples,"
        f" level of the tone at 10 kHz {level:.2f}"
    )
PYTHON
diff seen.txt - <<'SEEN'
states 48000 Hz: read at 48000 Hz, 48000 samples, level of the tone at 10 kHz 0.21
states 44100 Hz: read at 48000 Hz, 48000 samples, level of the tone at 10 kHz 0.21
states 0 Hz: read at 8000 Hz, 8000 samples, level of the tone at 10 kHz 0.00
SEEN
