"""One image file as pixels of one size, and what was done to it on the way."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from trainers.images.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

# In the order in which they are said; {n} is "3 images".
_SAID = {
    "grey": "{n} stored as grey: the one channel is repeated to three",
    "colour": "{n} stored in colour: turned to grey",
    "alpha": "{n} with transparency: laid on white",
    "deep": "{n} of 16 bits: the upper 8 are kept",
    "cmyk": "{n} stored as CMYK: converted to RGB",
    "turned": "{n} turned upright as the EXIF orientation says",
    "frames": "{n} with several frames: the first is taken",
    "resized": "{n} of another size: the shorter side is resized to {size} pixels (bilinear, "
    "antialiased), then the centre is cut out",
    "enlarged": "{n} smaller than {size} pixels: enlarged",
}
_GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True, kw_only=True, slots=True)
class Form:
    """How every image leaves: `size` x `size` pixels of 1 or 3 channels.

    `exact` refuses an image of another size instead of resizing it.
    """

    size: int
    channels: Literal[1, 3] = 3
    exact: bool = False

    @property
    def n_bytes(self) -> int:
        """Bytes of one image."""
        return self.size * self.size * self.channels


class UnsuitableError(ValueError):
    """An image that was read and is not of the form that is wanted."""


def pixels(path: Path, form: Form) -> tuple[bytes, set[str]]:
    """Return the bytes of one image, row by row, and the keys of what was done to it.

    Raises UnsuitableError, or whatever Pillow raises for a file that is no image.
    """
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        width, height = opened.size
        # Known from the header: an image of another size is never decoded.
        if form.exact and (width, height) != (form.size, form.size):
            raise UnsuitableError(
                f"it is {width} x {height} pixels; images must be {form.size} x {form.size}"
            )
        grey = opened.mode in _GREY_MODES
        done = {
            "frames": getattr(opened, "is_animated", False),
            "turned": _is_turned(opened),
            "deep": grey and opened.mode.startswith("I"),
            "grey": grey and form.channels == 3,
            "colour": not grey and form.channels == 1,
            "cmyk": opened.mode == "CMYK",
        }
        opened.load()
        image = _eight_bits(opened)
        if done["turned"]:
            image = ImageOps.exif_transpose(image)
    done["alpha"] = image.has_transparency_data and _has_clear_pixels(image)
    if done["alpha"]:
        image = _on_white(image)
    image = image.convert("RGB" if form.channels == 3 else "L")
    done["resized"] = image.size != (form.size, form.size)
    done["enlarged"] = min(image.size) < form.size
    if done["resized"]:
        image = _resized(image, form.size)
    return image.tobytes(), {key for key, is_so in done.items() if is_so}


def _is_turned(image: Image) -> bool:
    # The tag of EXIF and TIFF (PIL.ExifTags.Base.Orientation); 1 is upright.
    try:
        return image.getexif().get(0x0112, 1) in range(2, 9)
    # Pillow raises all sorts for broken EXIF, and the pixels may be sound.
    except Exception:
        return False


def _eight_bits(image: Image) -> Image:
    """Return an image of 8 bits a channel; 16 bits lose the lower 8, as in Pillow's RGB."""
    from PIL import Image

    # Pillow opens grey PNM files of 16 bits, and before 11.0 such PNG files, with 32 (mode I).
    of_16_bits = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format in ("PNG", "PPM")
    )
    if image.mode in ("I", "F") and not of_16_bits:
        raise UnsuitableError(
            f"its pixels are 32-bit numbers (mode {image.mode}) whose range is not known; save it "
            "with 8 or 16 bits"
        )
    if not of_16_bits:
        return image
    import numpy as np

    out = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    out.info = image.info
    return out


def _has_clear_pixels(image: Image) -> bool:
    lowest, _ = image.convert("RGBA").getchannel("A").getextrema()
    return int(lowest) < 255  # type: ignore[arg-type]


def _on_white(image: Image) -> Image:
    """As a browser shows it: with the alpha dropped, black strokes on nothing are all black."""
    from PIL import Image

    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image.convert("RGBA"))
    return white


def _resized(image: Image, size: int) -> Image:
    """Resize the shorter side and cut out the centre, as torchvision's usual evaluation does."""
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as v2

    image = v2.resize(image, [size], interpolation=InterpolationMode.BILINEAR, antialias=True)
    cropped: Image = v2.center_crop(image, [size, size])
    return cropped


def remarks(done: Counter[str], *, size: int) -> list[str]:
    """Say what was done to the images, from the counts of the keys."""
    return [
        text.format(n=counted(done[key], "image"), size=size)
        for key, text in _SAID.items()
        if done[key]
    ]
