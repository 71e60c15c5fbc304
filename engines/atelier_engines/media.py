"""Images and audio, as engines take and return them; conversion of pixels to Pillow images and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pixels:
    """A decoded image."""

    array: NDArray[np.uint8]
    """(height, width, channels), 0 to 255; 1 channel is greyscale, 3 are RGB."""

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.array.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.array.shape[0])

    def outline(self) -> Pixels:
        """A black image of the same size, all of whose pixels are the same byte of memory."""
        import numpy as np  # noqa: PLC0415 (engines that pass files on need no NumPy)

        return Pixels(array=np.broadcast_to(np.uint8(0), self.array.shape))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Samples:
    """Decoded audio."""

    array: NDArray[np.float32]
    """(samples, channels), -1 to 1."""
    sample_rate: int
    """Samples per second."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.array) / self.sample_rate

    def outline(self) -> Samples:
        """Silence of the same length and layout, all of whose samples are the same bytes of memory."""
        import numpy as np  # noqa: PLC0415 (engines that pass files on need no NumPy)

        silence = np.broadcast_to(np.float32(0), self.array.shape)
        return Samples(array=silence, sample_rate=self.sample_rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """An image or audio file, passed on byte for byte."""

    media_type: str
    """Media type, for instance image/png."""
    data: bytes
    """The file's bytes."""
    width: int = 0
    """Width in pixels; 0 for audio."""
    height: int = 0
    """Height in pixels; 0 for audio."""


Media = Pixels | Samples | Encoded
Input = Pixels | Samples
"""What a task may hold beside its numbers and texts."""


def image_from_pixels(pixels: Pixels) -> Image.Image:
    """Convert to a Pillow image: mode L for one channel, RGB for three."""
    from PIL import Image  # noqa: PLC0415 (engines that pass files on need no Pillow)

    array = pixels.array
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def pixels_from_image(image: Image.Image) -> Pixels:
    """Convert from a Pillow image to RGB; transparency is dropped."""
    import numpy as np  # noqa: PLC0415 (see above)

    return Pixels(array=np.array(image if image.mode == "RGB" else image.convert("RGB")))
