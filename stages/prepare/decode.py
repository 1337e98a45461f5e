"""An image file → pixels of the store's size, whatever the file holds."""

import hashlib
import io
from contextlib import closing, nullcontext
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from stages.prepare.disk import read_file

FORMATS = ("JPEG", "PNG", "BMP")
# Limits keep a stage below 2 GB with eight threads that decode. A few bytes of PNG can claim any
# size, and the coefficients of Lanczos take 48 bytes for each pixel of a side.
MAX_BYTES = 100_000_000
MAX_PIXELS = 2**26  # 8,192 × 8,192
MAX_SIDE = 2**16 - 1  # of JPEG
LARGE = 2**22  # pixels; images with more are decoded one at a time
ONE_LARGE_IMAGE = Lock()
Image.MAX_IMAGE_PIXELS = None  # `_refuse_size` refuses smaller ones, in one line and no warning

# Exif's orientation → what turns the stored image upright. 1, or none, is upright already.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """What one read of an image file gives."""

    pixels: np.ndarray  # (height, width, 3) uint8
    bytes: int  # size of the file
    sha256: str  # of the file, in hex
    has_turn: bool  # the file says that viewers turn or mirror the stored image


def read_image(path: Path, height: int, width: int, upright: bool = False) -> Decoded:
    """Read, decode and resize an image file.

    The image is converted to RGB first, then resized by Lanczos, as in the method's released code.
    With `upright` it is turned in between as its EXIF orientation says, as viewers do. The released
    code does not turn it.

    Raises:
        ValueError: says what is wrong, without the path.
    """
    raw = read_file(path, MAX_BYTES)
    if not raw:
        raise ValueError("is empty (0 bytes)")
    try:
        image = Image.open(io.BytesIO(raw), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"is not an image; expected {', '.join(FORMATS)}") from None
    except Exception as error:
        raise _unreadable(error) from None
    _refuse_unfit(image)
    is_large = image.width * image.height > LARGE
    try:
        with ONE_LARGE_IMAGE if is_large else nullcontext(), closing(image):
            pixels, has_turn = _decode(image, height, width, upright)
    except Exception as error:
        raise _unreadable(error) from None
    return Decoded(pixels, len(raw), hashlib.sha256(raw).hexdigest(), has_turn)


def _refuse_unfit(image: Image.Image) -> None:
    """Refuse an image by its header."""
    if max(image.size) > MAX_SIDE or image.width * image.height > MAX_PIXELS:
        expected = f"expected at most {MAX_SIDE:,} on a side and {MAX_PIXELS:,} in all"
        raise ValueError(f"has {image.width:,} × {image.height:,} pixels; {expected}")
    if image.mode.startswith(("I", "F")):  # RGB would clip such pixels to white
        raise ValueError(f"has {image.mode} pixels; expected 8 bits a channel")


def _decode(image: Image.Image, height: int, width: int, upright: bool) -> tuple[np.ndarray, bool]:
    """Return the pixels (height, width, 3) uint8, and whether EXIF turns the stored image."""
    rgb = image.convert("RGB")
    turn = _turn(image)
    if turn is not None and upright:
        rgb = rgb.transpose(turn)
    resized = rgb.resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized), turn is not None


def _turn(image: Image.Image) -> Image.Transpose | None:
    """Return what turns the stored image upright; None if it is upright or nothing says more."""
    try:
        return TURNS.get(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF: viewers show the image as it is stored
        return None


def _unreadable(error: Exception) -> ValueError:
    """Return the error for a damaged file, which can raise nearly anything inside a decoder."""
    return ValueError(f"is not a readable image: {' '.join(str(error).split())}")
