#!/usr/bin/env bash
# LittleCMS, as libvips calls it, converts colours of 16 bits with larger errors than the same colours in 8 bits.
#
# A profile of curves and a matrix is computed by its formula for samples of 8 bits. For samples of 16 bits it is
# replaced by a table with a few nodes for each channel, between which colours are interpolated; where a colour is
# outside sRGB, and one channel becomes 0, the result is wrong by more than 10 of 255, whatever the depth of the output.
#
# Versions: pyvips 3.2.0, libvips 8.18.7 (pyvips-binary), numpy 2.4.1. Seen on 2026-11-27, Display P3 to sRGB:
#   libvips 8.18.7: error in 8 bits at most 6 of 255: True
#   libvips 8.18.7: error in 16 bits more than 10 of 255: True
#
# What follows for Atelier: such profiles are computed by their formula, at every depth
# (atelier_engines/decoding/matrix_profiles.py), and the test against libvips goes by way of XYZ and floats
# (tests/artifacts/readers/pixels_session.py).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv env
env/bin/pip --quiet install pyvips==3.2.0 pyvips-binary==8.18.7 numpy==2.4.1 2>/dev/null

env/bin/python - <<'PYTHON' | tee seen.txt
import numpy
import pyvips

# Light of Display P3 to light of sRGB (both D65).
MATRIX = numpy.array(
    [[1.2249401, -0.2249402, 0.0], [-0.0420569, 1.0420571, 0.0], [-0.0196376, -0.0786361, 1.0982735]]
)


def to_srgb(levels):
    """Display P3 in sRGB, 0 to 1, by the formulas; both have the same curve."""
    light = numpy.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    light = (light @ MATRIX.T).clip(0, 1)
    return numpy.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def find_error(kind, form):
    """The most that libvips differs from the formulas on the same colours as samples of that type, of 255."""
    most = numpy.iinfo(kind).max
    colors = numpy.random.default_rng(1).integers(0, 256, (256, 256, 3)).astype(kind) * (most // 255)
    image = pyvips.Image.new_from_memory(colors.tobytes(), 256, 256, 3, form)
    image = image.copy(interpretation="srgb" if form == "uchar" else "rgb16")
    made = image.icc_transform("srgb", input_profile="p3", depth=8 * kind().itemsize)
    found = numpy.frombuffer(made.write_to_memory(), kind).reshape(colors.shape)
    return 255 * numpy.abs(found / most - to_srgb(colors / most)).max()


version = ".".join(str(pyvips.version(part)) for part in range(3))
print(f"libvips {version}: error in 8 bits at most 6 of 255:", bool(find_error(numpy.uint8, "uchar") <= 6))
print(f"libvips {version}: error in 16 bits more than 10 of 255:", bool(find_error(numpy.uint16, "ushort") > 10))
PYTHON
grep -qx "libvips 8.18.7: error in 8 bits at most 6 of 255: True" seen.txt
grep -qx "libvips 8.18.7: error in 16 bits more than 10 of 255: True" seen.txt
