"""What libvips reads in image files, run by a Python that has it installed; prints JSON and writes the samples."""

import json
import sys
from pathlib import Path

import pyvips

_PROFILE = "icc-profile-data"
_INTENT = "perceptual"
_MOST = {"uchar": 255, "ushort": 65535}


def read(path: Path) -> tuple[pyvips.Image, bool]:
    """The image upright, as floats with four bands, RGB and alpha; and whether they are linear, not encoded as sRGB.

    Where a file has a profile, colours are computed by way of XYZ and floats: from 16 bits to 16 bits LittleCMS
    interpolates in a table, which is wrong by up to 10 of 255 in saturated colours.
    """
    image = pyvips.Image.new_from_file(str(path)).autorot()
    bands = image.bands - image.hasalpha()
    alpha = image[bands] / _MOST[image.format] if image.hasalpha() else None
    color = image[:bands]
    linear = bool(image.get_typeof(_PROFILE)) and image.interpretation != "cmyk"
    if linear:
        xyz = color.icc_import(embedded=True, pcs="xyz", intent=_INTENT)
        color = xyz.colourspace("scrgb")
    elif image.interpretation == "cmyk":
        color = (
            color.icc_transform("srgb", embedded=True, intent=_INTENT, depth=16) / _MOST["ushort"]
        )
    else:
        color /= _MOST[color.format]
    if color.bands == 1:
        color = color.bandjoin([color, color])
    joined = color.bandjoin(1.0 if alpha is None else alpha)
    return joined.cast("float"), linear


def main(folder: str, target: str) -> None:
    """Read every file of the folder; print the size by name, and write the samples into `target`."""
    told: dict[str, dict[str, object]] = {}
    for path in sorted(Path(folder).iterdir()):
        try:
            image, linear = read(path)
            (Path(target) / path.name).write_bytes(image.write_to_memory())
        except pyvips.Error as error:
            told[path.name] = {"error": str(error)}
            continue
        told[path.name] = {"size": [image.height, image.width], "linear": linear}
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main(*sys.argv[1:])
