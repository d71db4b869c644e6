"""Filling galleries: from crops and a model to rows, and from rows to those of another model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import simplejpeg

from reid import images
from reid.disk import discard
from reid.embed import Embedder, Skipped
from reid.errors import DataError, ImageError
from reid.gallery.gallery import Gallery
from reid.gallery.ledger import TABLES, Ledger
from reid.gallery.rows import Rows, half
from reid.gallery.sqlite import SqliteStore
from reid.images import RGB
from reid.types import Crop, Embeddings
from reid.wording import many

HEIGHT, QUALITY = 256, 85  # of a picture that a gallery keeps
CHUNK = 2048  # crops that are added at once
FEW = 128  # pictures that are embedded at once


def small_jpeg(rgb: RGB) -> bytes:
    """A picture as galleries keep it: JPEG, no higher than HEIGHT, without metadata."""
    height, width = rgb.shape[:2]
    scale = min(1.0, HEIGHT / height, 2 * HEIGHT / width)
    small = images.resize(rgb, max(1, round(height * scale)), max(1, round(width * scale)))
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(small), QUALITY, "RGB", "420"))


def index(
    gallery: Gallery,
    embedder: Embedder,
    crops: Iterable[Crop],
    tags: Iterable[str] = (),
    pictures: bool = False,
    progress: Callable[[int], None] | None = None,
    on_skip: Callable[[Skipped], None] | None = None,
) -> int:
    """Embed crops and add them, CHUNK at a time, so that what was added stays when it is stopped. How many.

    Args:
        tags: words for all of them.
        pictures: keep a small picture of each in the gallery.
        progress: called with the number of crops done since the last call.
        on_skip: called for each picture that cannot be read; without it the first one raises.

    Raises:
        ModelError: the gallery holds vectors of another model.
        DataError: it cannot be written.
        ImageError: a picture cannot be read and no `on_skip` was given.
    """
    gallery.check(embedder.fingerprint)
    source, words, count = iter(crops), tuple(tags), 0
    while chunk := list(islice(source, CHUNK)):
        made = embedder(chunk, progress, on_skip)
        kept = [_kept(crop) for crop in made.crops] if pictures else None
        gallery.add(made, words, kept)
        count += len(made)
    return count


def _kept(crop: Crop) -> bytes | None:
    """The small picture, unless the file is gone by now."""
    rgb = _picture(crop, None)
    return None if rgb is None else small_jpeg(rgb)


def add(gallery: Gallery, made: Embeddings, tags: Iterable[str] = ()) -> None:
    """Add embeddings, CHUNK at a time."""
    words = tuple(tags)
    for start in range(0, len(made), CHUNK):
        gallery.add(made[start : start + CHUNK], words)


def rebuild(
    gallery: Gallery,
    embedder: Embedder,
    made_with: dict[str, str],
    address: str | None = None,
    drop: bool = False,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Embed all crops of a gallery with another model, from their files or else the pictures that it keeps. How many.

    People, tags, times, the log, feedback and settings stay. While it lasts, nobody else can change the gallery; in the
    end it is changed in one step. A gallery on a server is not changed: name an address for the new one.

    Args:
        made_with: how the model is named, see `Gallery.made_with`.
        address: of a new gallery; by default a gallery in a file changes itself.
        drop: leave out crops of which no picture is left, which is an error otherwise.

    Raises:
        DataError: crops without a picture, something at the address already, or it cannot be written.
    """
    if address is None and not isinstance(gallery.store, SqliteStore):
        raise DataError(f"{gallery.address.shown} is on a server and is not changed in place; name a new address")
    with gallery.ledger.alone():
        gone = [crop.path for part in gallery.rows(vectors=False) for crop in _without(part)]
        if gone and not drop:
            raise DataError(_no_picture(len(gone), gone[0]))
        beside = gallery.address.rebuilding
        if address is None:
            discard(beside)
        try:
            with Gallery.open(address or beside, embedder.fingerprint, embedder.dim) as target:
                if target.count():
                    raise DataError(f"{target.address.shown} holds crops already; name the address of a new gallery")
                count = sum(_embedded(gallery, target, embedder, progress))
                dropped = gallery.count() - count
                if dropped and not drop:
                    raise DataError(_no_picture(dropped, "a file that cannot be read"))

                def carry() -> None:
                    with closing(Ledger(gallery.address.ledger)) as newest:
                        for table in TABLES:
                            name = table.split()[0]
                            target.ledger.restore(name, newest.saved(name))
                    target.made_with = made_with
                    target.record("rebuild", rows=count, dropped=dropped)

                if address is None and isinstance(gallery.store, SqliteStore):
                    gallery.store.become(beside, carry)
                else:
                    carry()
        finally:
            if address is None:
                discard(beside)
    gallery.model, gallery.dim = gallery.store.model, gallery.store.dim
    return count


def _embedded(
    gallery: Gallery, target: Gallery, embedder: Embedder, progress: Callable[[int], None] | None
) -> Iterator[int]:
    """Write the rows of one gallery to another with new vectors; how many at a time."""
    for part in gallery.rows(vectors=False):
        pairs = [(i, rgb) for i in range(len(part)) if (rgb := _picture(part.crops[i], part.pictures[i])) is not None]
        for start in range(0, len(pairs), FEW):
            at, pictures = zip(*pairs[start : start + FEW], strict=True)
            target.store.upsert(replace(part[list(at)], vectors=half(embedder.arrays(pictures))))
            if progress:
                progress(len(at))
            yield len(at)


def _no_picture(count: int, such_as: str) -> str:
    return f"no picture is left of {many(count, 'crop')}, such as {such_as}; leave them out with --drop"


def _without(part: Rows) -> Sequence[Crop]:
    """Crops of which there is no picture."""
    pairs = zip(part.crops, part.pictures, strict=True)
    return [crop for crop, kept in pairs if kept is None and not os.path.isfile(crop.path)]  # noqa: PTH113


def _picture(crop: Crop, kept: bytes | None) -> RGB | None:
    """What is in a crop's file, or else the picture that was kept, or else nothing."""
    try:
        return images.read(crop.path)
    except ImageError:
        return None if kept is None else images.decode(kept, crop.path)
