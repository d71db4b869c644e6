"""One pass over the files of many crops: size, content, look. What it keeps is bounded to some 40 bytes a crop."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from reid import images
from reid.errors import ImageError
from reid.images import RGB

THUMB = (32, 16)
MOST_THUMBS = 20_000
MOST_REASONS = 1_000
BLANK = 2.0
_SPREAD = 37 * np.arange(128) % 128
_CHUNK = 64
_THREADS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Scan:
    """What the files hold, row by row in the order they were given.

    Attributes:
        sizes: (N, 2) width and height, 0 where the picture cannot be read.
        digests: (N, 2) uint64, equal for files of equal content.
        hashes: (N, 2) uint64, of which few bits differ between pictures that look alike; see `difference_hash`.
        blank: (N,) true where a picture is one flat colour.
        thumbs: (M, 32, 16, 3) uint8 of the rows that were asked for, in their order; black where unreadable.
        reasons: why pictures cannot be read, by row, for the first 1,000 of them.
    """

    sizes: NDArray[np.int32]
    digests: NDArray[np.uint64]
    hashes: NDArray[np.uint64]
    blank: NDArray[np.bool_]
    thumbs: RGB
    reasons: dict[int, str]

    @property
    def readable(self) -> NDArray[np.bool_]:
        """(N,) true where the picture can be read."""
        return self.sizes[:, 0] > 0


class _Look(NamedTuple):
    size: tuple[int, int]
    digest: bytes
    hash: NDArray[np.uint64]
    blank: bool
    thumb: RGB | None


def scan(paths: Sequence[str], thumbs: Sequence[int] = (), progress: Callable[[int, int], None] | None = None) -> Scan:
    """Read and decode every file, in threads.

    Args:
        paths: N files.
        thumbs: rows of which a thumbnail is kept.
        progress: called with (files done, N) now and then, from the calling thread.
    """
    count = len(paths)
    sizes, blank = np.zeros((count, 2), np.int32), np.zeros(count, bool)
    digests, hashes = np.zeros((count, 2), np.uint64), np.zeros((count, 2), np.uint64)
    place = {row: i for i, row in enumerate(thumbs)}
    kept = np.zeros((len(thumbs), *THUMB, 3), np.uint8)
    reasons: dict[int, str] = {}
    for row, look in enumerate(_looks(paths, place)):
        if isinstance(look, str):
            if len(reasons) < MOST_REASONS:
                reasons[row] = look
        else:
            sizes[row], hashes[row], blank[row] = look.size, look.hash, look.blank
            digests[row] = np.frombuffer(look.digest, np.uint64)
            if look.thumb is not None:
                kept[place[row]] = look.thumb
        if progress and (row + 1 == count or (row + 1) % _CHUNK == 0):
            progress(row + 1, count)
    return Scan(sizes, digests, hashes, blank, kept, reasons)


def _looks(paths: Sequence[str], thumbs: dict[int, int]) -> Iterator[_Look | str]:
    """In order, with a few chunks under way at a time."""

    def chunk(start: int) -> list[_Look | str]:
        return [_look(path, row in thumbs) for row, path in enumerate(islice(paths, start, start + _CHUNK), start)]

    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        under_way: list[Future[list[_Look | str]]] = []
        try:
            for start in range(0, len(paths), _CHUNK):
                under_way.append(pool.submit(chunk, start))
                if len(under_way) > 2 * _THREADS:
                    yield from under_way.pop(0).result()
            while under_way:
                yield from under_way.pop(0).result()
        finally:
            for future in under_way:
                future.cancel()


def _look(path: str, with_thumb: bool) -> _Look | str:
    """What one file holds, or why it cannot be read."""
    try:
        data = images.read_bytes(path)
        image = images.decode(data, path)
    except ImageError as error:
        return str(error).removeprefix(path).strip()
    grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.uint8)
    return _Look(
        (image.shape[1], image.shape[0]),
        hashlib.blake2b(data, digest_size=16).digest(),
        difference_hash(grey),
        float(grey.std()) < BLANK,
        images.resize(image, *THUMB) if with_thumb else None,
    )


def difference_hash(grey: RGB) -> NDArray[np.uint64]:
    """(2,) uint64: whether brightness grows from left to right and from top to bottom, at 8×8 places each.

    The bits are shuffled, so that a flat part of the picture leaves no stretch of the hash constant.
    """
    wide = cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA)
    high = cv2.resize(grey, (8, 9), interpolation=cv2.INTER_AREA)
    bits = np.concatenate([(wide[:, 1:] > wide[:, :-1]).ravel(), (high[1:] > high[:-1]).ravel()])
    return np.packbits(bits[_SPREAD]).view(np.uint64)
