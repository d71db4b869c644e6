"""Reading pictures. One decoder and one resizer, for training and serving alike, so that both see the same pixels.

What becomes of unusual files: EXIF rotation is applied; greyscale, palette and CMYK become RGB; 16-bit is scaled to
8-bit; of an animation the first frame is taken; transparency is laid on white. Empty, broken, truncated and oversized
files raise ImageError with one sentence. Formats are recognised by content, never by the file's name.
"""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from reid.errors import ImageError, ModelError, ShapeError

RGB = NDArray[np.uint8]

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".avif"})
MAX_PIXELS = 40_000_000
MAX_BYTES = 256 << 20
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "GIF", "PPM", "AVIF")

cv2.setNumThreads(1)  # reid runs one decoder a thread; OpenCV's own pool on top would oversubscribe the cores


def is_image(path: str | os.PathLike[str]) -> bool:
    """Whether a file's name ends like a picture's."""
    return os.path.splitext(path)[1].lower() in SUFFIXES


def walk(root: str | os.PathLike[str]) -> Iterator[Path]:
    """Every picture below a folder, in sorted order, hidden files and folders left out.

    Linked folders are followed, but each folder is entered once, whatever leads to it.
    """
    entered: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        here = os.path.realpath(folder)
        if here in entered:
            below.clear()
            continue
        entered.add(here)
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
        file = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))  # half the system calls of open()
        try:
            size = os.fstat(file).st_size
            if size > MAX_BYTES:
                raise ImageError(f"{path} has {size >> 20} MiB; pictures may have {MAX_BYTES >> 20} MiB")
            return os.read(file, size)
        finally:
            os.close(file)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ImageError(f"{path} cannot be opened ({reason}); check the path and its permissions") from None


def decode(data: bytes, name: str = "the image", most: int = MAX_PIXELS) -> RGB:
    """Decode a file's content to (H, W, 3) uint8 RGB; `name` is used in messages, `most` pixels are read.

    Raises:
        ImageError: it cannot be decoded, or has more pixels, which is known before they are unpacked.
    """
    if not data:
        raise ImageError(f"{name} is empty (0 bytes); remove it or copy it again")
    if data[:2] == b"\xff\xd8" and data.find(b"Exif", 0, 4096) < 0:
        try:
            height, width, space, _ = simplejpeg.decode_jpeg_header(data)
            _check_pixels(width, height, name, most)
            if space in ("YCbCr", "Gray", "RGB"):
                rgb: RGB = simplejpeg.decode_jpeg(data, "RGB")
                return rgb
        except ValueError:
            pass  # Pillow reads some that libjpeg-turbo refuses, and says better what is wrong with the others
    return _decode_with_pillow(data, name, most)


def _decode_with_pillow(data: bytes, name: str, most: int) -> RGB:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
            _check_pixels(*image.size, name, most)
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError:
        raise ImageError(f"{name} unpacks to more than {most:,} pixels; scale it down first") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{name} is no picture that reid knows ({', '.join(_FORMATS)}); convert or remove it"
        ) from None
    except ImageError:
        raise
    except Exception as error:
        raise ImageError(f"{name} is damaged ({error}); replace or remove it") from None


def _check_pixels(width: int, height: int, name: str, most: int) -> None:
    if width * height > most:
        raise ImageError(f"{name} is {width}×{height} pixels; at most {most:,} pixels are read, scale it down first")


def _to_rgb(image: Image.Image) -> RGB:
    if image.mode[0] in "IF":
        grey = np.asarray(image, dtype=np.float64)
        sixteen = image.mode.startswith("I;16") or grey.max() > 255
        eight = np.rint(np.clip(grey / 257 if sixteen else grey, 0, 255)).astype(np.uint8)
        return np.repeat(eight[..., None], 3, axis=2)
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


WANTED = (
    "it must be an RGB array of shape (height, width, 3), as reid.images.read makes of a file and numpy.asarray of a "
    "Pillow picture in RGB"
)


def check_rgb(image: object, name: str = "an image") -> RGB:
    """An array from a caller, checked to be (H, W, 3) uint8."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or 0 in image.shape:
        given = (
            f"{type(image).__name__} of shape {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        )
        raise ShapeError(f"{name} is {given}; {WANTED}")
    if image.dtype != np.uint8:
        raise ShapeError(f"{name} has type {image.dtype}; it must be uint8 with values 0 to 255")
    return image


def _plain(image: RGB, height: int, width: int) -> list[RGB]:
    return [resize(image, height, width)]


def _mirror(image: RGB, height: int, width: int) -> list[RGB]:
    """The image and its mirror image."""
    whole = resize(image, height, width)
    return [whole, whole[:, ::-1]]


def _ten(image: RGB, height: int, width: int) -> list[RGB]:
    """Centre and corner cut-outs of the image scaled to 9/8, and their mirror images (TriNet, Hermans et al. 2017)."""
    large = resize(image, height * 9 // 8, width * 9 // 8)
    down, right = large.shape[0] - height, large.shape[1] - width
    corners = [(down // 2, right // 2), (0, 0), (0, right), (down, 0), (down, right)]
    cuts = [large[y : y + height, x : x + width] for y, x in corners]
    return cuts + [cut[:, ::-1] for cut in cuts]


VIEWS: dict[str, Callable[[RGB, int, int], list[RGB]]] = {"plain": _plain, "mirror": _mirror, "ten": _ten}

CONVENTIONS: dict[str, dict[str, Any]] = {
    "torchreid": {"mean": (123.675, 116.28, 103.53), "deviation": (58.395, 57.12, 57.375)},
    "rgb255": {},
    "bgr255": {"channels": "BGR"},
    "rgb1": {"deviation": (255, 255, 255)},
    "bgr1": {"channels": "BGR", "deviation": (255, 255, 255)},
    "half": {"mean": (127.5, 127.5, 127.5), "deviation": (127.5, 127.5, 127.5)},
    "caffe": {"channels": "BGR", "mean": (103.939, 116.779, 123.68)},
}
"""What makers of models usually do with pixels: ImageNet's mean and deviation, nothing at all, 0 to 1, −1 to 1, …"""


@dataclass(frozen=True, slots=True)
class Preprocess:
    """How a model wants its input. Stored in the model file, so that nobody has to remember it.

    Attributes:
        height, width: in pixels.
        channels: "RGB" or "BGR".
        scale, mean, deviation: each channel, in the order above, becomes (pixel · scale − mean) / deviation.
        inside: true where the network does that itself and takes (N, H, W, 3) bytes; otherwise (N, 3, H, W) floats.
        views: a name from VIEWS; the embeddings of an image's views are averaged.
    """

    height: int
    width: int
    channels: str = "RGB"
    scale: float = 1.0
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    deviation: tuple[float, float, float] = (1.0, 1.0, 1.0)
    inside: bool = False
    views: str = "plain"

    def __post_init__(self) -> None:
        if not (0 < self.height <= 4096 and 0 < self.width <= 4096):
            raise ModelError(
                f"a model wants pictures of {self.height}×{self.width}; each side may have 1 to 4096 pixels"
            )
        if self.channels not in ("RGB", "BGR"):
            raise ModelError(f"channel order is {self.channels!r}; it can be RGB or BGR")
        if self.views not in VIEWS:
            raise ModelError(f"views are {self.views!r}; they can be {', '.join(VIEWS)}")
        if len(self.mean) != 3 or len(self.deviation) != 3 or 0 in self.deviation:
            raise ModelError(
                f"mean {self.mean} and deviation {self.deviation} must be three numbers each, none 0 in the second"
            )
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "deviation", tuple(float(v) for v in self.deviation))

    @classmethod
    def like(cls, text: str, height: int | None = None, width: int | None = None) -> Preprocess:
        """One of the CONVENTIONS by name, with the size after a colon where the model does not fix it.

        >>> Preprocess.like("bgr255:256x128").channels
        'BGR'

        Raises:
            ModelError: no such convention, no size, or another size than the model's own.
        """
        name, _, size = text.partition(":")
        if name not in CONVENTIONS:
            raise ModelError(f"the convention is {name!r}; it can be {', '.join(CONVENTIONS)}, such as bgr255:256x128")
        asked = re.fullmatch(r"(\d{1,4})x(\d{1,4})", size)
        if size and not asked:
            raise ModelError(f"the size is {size!r}; give height x width in pixels, such as {name}:256x128")
        given = (int(asked[1]), int(asked[2])) if asked else (height, width)
        if given[0] is None or given[1] is None:
            raise ModelError(f"the model takes pictures of any size; give the one it was made for, as {name}:256x128")
        if any(own not in (None, one) for own, one in zip((height, width), given, strict=True)):
            raise ModelError(f"the model takes pictures of {height}×{width} only, not {size}; leave the size out")
        return cls(given[0], given[1], **CONVENTIONS[name])

    @classmethod
    def stated(cls, fields: object, path: str | os.PathLike[str]) -> Preprocess:
        """What a model file says of its preprocessing, checked.

        Raises:
            ModelError: it is damaged.
        """
        try:
            return cls(**fields)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise ModelError(f"what {path} says of its preprocessing is damaged ({error}); copy it again") from None

    def fields(self) -> dict[str, Any]:
        """What `stated` reads back."""
        return asdict(self)

    def look(self, image: RGB) -> list[RGB]:
        """The views of one image, each (height, width, 3) bytes."""
        return VIEWS[self.views](image, self.height, self.width)

    def prepare(self, batch: RGB) -> NDArray[np.uint8] | NDArray[np.float32]:
        """(N, height, width, 3) bytes to what the network takes."""
        if self.channels == "BGR":
            batch = batch[..., ::-1]
        if self.inside:
            return np.ascontiguousarray(batch)
        ready = np.empty((len(batch), 3, self.height, self.width), dtype=np.float32)
        for c in range(3):
            np.multiply(batch[..., c], self.scale / self.deviation[c], out=ready[:, c], dtype=np.float32)
            ready[:, c] -= self.mean[c] / self.deviation[c]
        return ready
