#!/usr/bin/env bash
# hibari-tts says no more than 24 letters of a word that is in no dictionary, without a warning, and fails on numbers of
# more than 36 digits.
#
# Its reader of unknown words cuts what is longer than its model was trained for. Its list of names for numbers ends with
# decillions.
#
# Versions: hibari-tts 0.2.1, onnxruntime 1.31.1, Python 3.11.7. Seen on 2026-11-28:
#   80 letters: 25 phonemes, 800 letters: 25 phonemes
#   40 digits: IndexError: list index out of range
#
# What follows for Atelier: a reader of unknown words that takes them piece by piece, spaces in words of more than 40
# characters, and long numbers digit by digit (atelier_engines/speech/text.py and voice.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install hibari-tts==0.2.1

env/bin/python - <<'PYTHON' | tee seen.txt
from hibari import Hibari

voice = Hibari()
voice.phonemize("Ready. Xqzt.")
short, long = (len(voice.phonemize("abcdefgh" * count)[0]) for count in (10, 100))
print(f"80 letters: {short} phonemes, 800 letters: {long} phonemes")
try:
    voice.phonemize("1" * 40)
    print("40 digits: read")
except IndexError as error:
    print(f"40 digits: IndexError: {error}")
PYTHON

diff seen.txt - <<'SEEN'
80 letters: 25 phonemes, 800 letters: 25 phonemes
40 digits: IndexError: list index out of range
SEEN
