"""Pictures that are sent in, and those that are shown."""

from __future__ import annotations

from dataclasses import dataclass

from reid import images, quality
from reid.errors import ImageError
from reid.gallery.rows import upload_path
from reid.images import RGB, Preprocess
from reid.indexing import small_jpeg
from reid.quality import Floats


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
    return Looked(preprocess.look(rgb), quality.measure(rgb), small_jpeg(rgb) if keep else None, upload_path(data))


def shown(path: str, kept: bytes | None, max_pixels: int) -> bytes | None:
    """The small picture of a crop: the one that is kept, or made of its file; None where there is neither.

    The file is decoded and encoded again, so that nothing but a picture ever leaves by this way.
    """
    if kept is not None:
        return kept
    if path.startswith("upload:"):
        return None
    try:
        return small_jpeg(images.decode(images.read_bytes(path), "the picture", max_pixels))
    except ImageError:
        return None
