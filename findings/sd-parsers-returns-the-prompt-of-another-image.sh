#!/usr/bin/env bash
# sd-parsers returns the prompt of an image that it read before, if the next image object gets the address of that one.
#
# ParserManager.parse remembers the UserComment of the last JPEG or WebP image by `id(image)`. CPython gives an id again
# once its object is gone, so a loop over files can get the prompt of the file before, without any error. Images that
# are kept have ids of their own.
#
# Versions: sd-parsers 0.6, Pillow 13.0.0. Seen on 2026-11-27:
#   sd-parsers 0.6: of 400 images dropped after reading, some had the prompt of another: True
#   sd-parsers 0.6: of 400 images kept, some had the prompt of another: False
#
# What follows for Atelier: the test that sd-parsers reads our files keeps every image that it has read
# (tests/artifacts/readers/metadata_session.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install sd-parsers==0.6 pillow==13.0.0 piexif==1.1.3 2>/dev/null

env/bin/python - <<'PYTHON' | tee seen.txt
import io

import piexif
import piexif.helper
from PIL import Image
from sd_parsers import ParserManager

SETTINGS = "Steps: 4, Sampler: Euler, CFG scale: 7, Seed: 1, Size: 8x8"


def file_of(prompt):
    """A JPEG file with the metadata that stable-diffusion-webui writes."""
    text = piexif.helper.UserComment.dump(f"{prompt}\n{SETTINGS}", encoding="unicode")
    file = io.BytesIO()
    exif = piexif.dump({"Exif": {piexif.ExifIFD.UserComment: text}})
    Image.new("RGB", (8, 8)).save(file, "JPEG", exif=exif)
    return io.BytesIO(file.getvalue())


def count_wrong(keep):
    """How many of 400 images have a prompt that is not theirs."""
    manager, kept, wrong = ParserManager(), [], 0
    for number in range(400):
        image = Image.open(file_of(f"prompt {number}"))
        found = [prompt.value for prompt in manager.parse(image).prompts]
        wrong += found != [f"prompt {number}"]
        if keep:
            kept.append(image)
        del image
    return wrong


for name, keep in (("dropped after reading", False), ("kept", True)):
    wrong = count_wrong(keep) > 0
    print(f"sd-parsers 0.6: of 400 images {name}, some had the prompt of another: {wrong}")
PYTHON
grep -qx "sd-parsers 0.6: of 400 images dropped after reading, some had the prompt of another: True" seen.txt
grep -qx "sd-parsers 0.6: of 400 images kept, some had the prompt of another: False" seen.txt
