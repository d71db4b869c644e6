"""Pictures that are sent in, and those that are shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg

from reid import images, quality
from reid.errors import ImageError
from reid.gallery.rows import upload_path
from reid.images import RGB, Preprocess
from reid.quality import Floats

HEIGHT, WIDTH, QUALITY = 256, 512, 85  # of pictures that are kept and shown


@dataclass(frozen=True, slots=True)
class Looked:
    """A picture as far as it is needed: the rest is gone.

    Attributes:
        views: for the model, each (height, width, 3) bytes.
        quality: (M,) see `reid.quality`.
        small: as a JPEG file, to keep; None where it is not to be kept.
        path: that stands for it, made of the file's bytes.
    """

    views: list[RGB]
    quality: Floats
    small: bytes | None
    path: str


def look(data: bytes, name: str, preprocess: Preprocess, max_pixels: int, keep: bool = False) -> Looked:
    """Decode a picture and make of it what is needed.

    Raises:
        ImageError: it cannot be read, or has more pixels than are allowed.
    """
    rgb = images.decode(data, name, max_pixels)
    return Looked(preprocess.look(rgb), quality.measure(rgb), small(rgb) if keep else None, upload_path(data))


def small(rgb: RGB) -> bytes:
    """A picture as a small JPEG file without metadata."""
    height, width = rgb.shape[:2]
    scale = min(1.0, HEIGHT / height, WIDTH / width)
    shrunk = images.resize(rgb, max(1, round(height * scale)), max(1, round(width * scale)))
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(shrunk), QUALITY, "RGB", "420"))


def shown(path: str, kept: bytes | None, max_pixels: int) -> bytes | None:
    """The small picture of a crop: the one that is kept, or made of its file; None where there is neither.

    The file is decoded and encoded again, so that nothing but a picture ever leaves by this way.
    """
    if kept is not None:
        return kept
    if path.startswith("upload:"):
        return None
    try:
        return small(images.decode(images.read_bytes(path), "the picture", max_pixels))
    except ImageError:
        return None
