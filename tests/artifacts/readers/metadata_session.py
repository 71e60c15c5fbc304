"""What other tools read in the metadata of image files, run by a Python that has them installed; prints JSON."""

import json
import re
import sys
from pathlib import Path

import piexif
import piexif.helper
from PIL import Image
from sd_parsers import ParserManager
from sd_prompt_reader.image_data_reader import ImageDataReader

_SETTING = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_NEGATIVE = "Negative prompt:"
_SETTINGS_OF_A_LAST_LINE = 3

_OPENED: list[Image.Image] = []
"""Kept, because sd-parsers 0.6 remembers metadata by the id of the image, which the next one may get."""

Told = dict[str, object]


def read_as_webui(path: Path) -> Told:
    """As stable-diffusion-webui 1.10.1 does: modules/images.py, read_info_from_image, and modules/infotext_utils.py."""
    with Image.open(path) as image:
        text = image.info.get("parameters")
        if "exif" in image.info:
            tags = piexif.load(image.info["exif"])
            text = piexif.helper.UserComment.load(tags["Exif"][piexif.ExifIFD.UserComment])
    *lines, last = str(text).strip().split("\n")
    settings = dict(_SETTING.findall(last))
    if len(settings) < _SETTINGS_OF_A_LAST_LINE:
        raise ValueError(last)
    words: dict[bool, list[str]] = {False: [], True: []}
    negative = False
    for line in map(str.strip, lines):
        negative = negative or line.startswith(_NEGATIVE)
        words[negative].append(line.removeprefix(_NEGATIVE).strip())
    return {
        "prompt": "\n".join(words[False]),
        "negative_prompt": "\n".join(words[True]),
        "seed": settings["Seed"],
        "steps": settings.get("Steps"),
        "size": settings["Size"],
    }


def read_with_prompt_reader(path: Path) -> Told:
    """By sd-prompt-reader's only interface."""
    with path.open("rb") as file:
        found = ImageDataReader(file)
    if found.status.name != "READ_SUCCESS":
        return {"status": found.status.name}
    return {
        "prompt": found.positive,
        "negative_prompt": found.negative,
        "seed": found.parameter["seed"],
        "steps": found.parameter["steps"],
        "size": found.parameter["size"],
    }


def read_with_parsers(path: Path) -> Told:
    """By the first example of sd-parsers' documentation."""
    image = Image.open(path)
    _OPENED.append(image)
    found = ParserManager().parse(image)
    if found is None:
        return {"status": "nothing found"}
    (sampler,) = found.samplers
    return {
        "prompt": found.full_prompt,
        "negative_prompt": found.full_negative_prompt,
        "seed": sampler.parameters["seed"],
        "steps": sampler.parameters["steps"],
        "size": found.metadata["Size"],
    }


READERS = {
    "webui": read_as_webui,
    "sd-prompt-reader": read_with_prompt_reader,
    "sd-parsers": read_with_parsers,
}


def main(reader: str, folder: str) -> None:
    """Print what the reader finds, by name of the file."""
    read = READERS[reader]
    told = {}
    for path in sorted(Path(folder).iterdir()):
        try:
            told[path.name] = read(path)
        except Exception as error:  # noqa: BLE001 (whatever goes wrong is the outcome)
            told[path.name] = {"error": repr(error)}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
