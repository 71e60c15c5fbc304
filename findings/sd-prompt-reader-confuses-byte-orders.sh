#!/usr/bin/env bash
# sd-prompt-reader cannot read a JPEG or WebP image whose prompt has a character such as ß, Ü or Ø.
#
# Before it reads the EXIF UserComment as what it is, UTF-16 with the upper byte first, it decodes it as UTF-16 with the
# lower byte first, to look for metadata of another program. A character whose code ends in D8 to DF becomes half of a
# surrogate pair there, and the image has the status FORMAT_ERROR. What its own save_image writes is no exception.
#
# Versions: sd-prompt-reader 1.3.5, piexif 1.1.3, Pillow 10.3.0 (which it pins) and 13.0.0. Seen on 2026-11-27:
#   sd-prompt-reader 1.3.5: 'a street' READ_SUCCESS
#   sd-prompt-reader 1.3.5: 'eine Straße' FORMAT_ERROR
#
# What follows for Atelier: nothing can be written that it and stable-diffusion-webui both read; docs/formats.md says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install --no-deps sd-prompt-reader==1.3.5 piexif==1.1.3 pillow==13.0.0 2>/dev/null

env/bin/python - <<'PYTHON' 2>/dev/null | tee seen.txt
from PIL import Image
from sd_prompt_reader.image_data_reader import ImageDataReader

SETTINGS = "Steps: 4, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 8x8"
Image.new("RGB", (8, 8)).save("plain.jpg")
for prompt in ("a street", "eine Straße"):
    ImageDataReader.save_image("plain.jpg", "made.jpg", "JPEG", f"{prompt}\n{SETTINGS}")
    with open("made.jpg", "rb") as file:
        print(f"sd-prompt-reader 1.3.5: {prompt!r}", ImageDataReader(file).status.name)
PYTHON
grep -qx "sd-prompt-reader 1.3.5: 'a street' READ_SUCCESS" seen.txt
grep -qx "sd-prompt-reader 1.3.5: 'eine Straße' FORMAT_ERROR" seen.txt
