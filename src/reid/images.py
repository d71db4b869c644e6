"""Reading pictures. One decoder and one resizer, for training and serving alike, so that both see the same pixels.

What becomes of unusual files: EXIF rotation is applied; greyscale, palette and CMYK become RGB; 16-bit is scaled to
8-bit; of an animation the first frame is taken; transparency is laid on white. Empty, broken, truncated and oversized
files raise ImageError with one sentence. Formats are recognised by content, never by the file's name.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reid.errors import ImageError, ShapeError

RGB = NDArray[np.uint8]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif"})
MAX_PIXELS = 40_000_000
MAX_BYTES = 256 << 20
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "MPO", "AVIF")

cv2.setNumThreads(1)  # reid runs one decoder a thread; OpenCV's own pool on top would oversubscribe the cores


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends like a picture's."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def walk(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Every picture below a folder, in sorted order, hidden files and folders left out."""
    for folder, below, files in os.walk(root):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(files):
            if is_image(name) and not name.startswith("."):
                yield Path(folder, name)


def read(path: str | os.PathLike[str]) -> RGB:
    """Decode a file to (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the file cannot be read; the message names it and says why.
    """
    return decode(read_bytes(path), str(path))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """A file's content, refused before it is read when it is larger than a picture can reasonably be."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise ImageError(f"{path} has {size >> 20} MiB; pictures may have {MAX_BYTES >> 20} MiB")
            return file.read(MAX_BYTES)
    except OSError as error:
        reason = error.strerror or str(error)
        raise ImageError(f"{path} cannot be opened ({reason}); check the path and its permissions") from None


def decode(data: bytes, name: str = "the image") -> RGB:
    """Decode a file's content to (H, W, 3) uint8 RGB; `name` is used in messages."""
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); remove it or copy it again")
    if data[:2] == b"\xff\xd8" and b"Exif" not in data[:4096]:
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
            _check_pixels(width, height, name)
            if space in ("YCbCr", "Gray", "RGB"):
                rgb: RGB = simplejpeg.decode_jpeg(data, "RGB")
                return rgb
        except ValueError:
            pass  # Pillow reads some that libjpeg-turbo refuses, and says better what is wrong with the others
    return _decode_with_pillow(data, name)


def _decode_with_pillow(data: bytes, name: str) -> RGB:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            _check_pixels(*image.size, name)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise ImageError(f"{name} unpacks to more than {MAX_PIXELS:,} pixels; scale it down first") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is no picture that reid knows ({', '.join(_FORMATS)}); convert or remove it"
        ) from None
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name} is damaged ({error}); replace or remove it") from None


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(
            f"{name} is {width}×{height} pixels; at most {MAX_PIXELS:,} pixels are read, scale it down first"
        )


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode in ("I;16", "I;16B", "I;16L", "I", "F"):
        grey = np.asarray(image, dtype=np.float64)
        scaled = np.clip(grey / (257.0 if grey.max() > 255 else 1.0), 0, 255)
        return np.repeat(np.rint(scaled).astype(np.uint8)[..., None], 3, axis=2)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        image = Image.alpha_composite(white, rgba)
    return np.array(image.convert("RGB"))


def resize(image: RGB, height: int, width: int) -> RGB:
    """Stretch to height × width: averaged when it shrinks, bilinear when it grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] >= height and image.shape[1] >= width
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)  # type: ignore[return-value]


def check_rgb(image: object, name: str = "an image") -> RGB:
    """An array from a caller, checked to be (H, W, 3) uint8."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        given = (
            f"{type(image).__name__} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise ShapeError(f"{name} is {given}; it must be an RGB array of shape (height, width, 3)")
    if image.dtype != np.uint8:
        raise ShapeError(f"{name} has type {image.dtype}; it must be uint8 with values 0 to 255")
    return image
