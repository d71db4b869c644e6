"""What is trained on, its pictures as bytes where a step can reach them: on the device, in memory, or decoded ahead."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from reid import images
from reid.errors import DataError, ImageError
from reid.evaluation import hold_out, protocol_for
from reid.types import Crop

Integers = NDArray[np.integer]
Held = tuple[list[Crop], list[Crop]]
AHEAD = 3


class Feed:
    """Batches of crops at one size, as (B, H, W, 3) uint8 on a device.

    A set that fits is decoded once and held: on the device where that has room, else in memory. A larger one is decoded
    by threads while the device computes.

    Args:
        crops: readable ones (see `readable`).
        height, width: of the batches.
        device: that the batches are for.
        memory: bytes that pictures may fill on the host; on an accelerator half of what is free.

    Attributes:
        held: whether all pictures are decoded and held.
        waited: seconds that `batches` has spent so far on getting pictures.
    """

    def __init__(self, crops: Sequence[Crop], height: int, width: int, device: torch.device, memory: int = 8 << 30):
        self.crops, self.size, self.device, self.waited = crops, (height, width), device, 0.0
        need = len(crops) * height * width * 3
        on_device = device.type == "cuda" and need < torch.cuda.mem_get_info(device)[0] // 2
        self.held = on_device or need <= memory
        self._pool = ThreadPoolExecutor()
        self._pixels: Tensor | None = None
        if self.held:
            pixels = np.empty((len(crops), height, width, 3), np.uint8)
            list(self._pool.map(lambda i: np.copyto(pixels[i], self._decode(i)), range(len(crops))))
            self._pixels = torch.from_numpy(pixels).to(device if on_device else "cpu")

    def batches(self, rows: Iterable[NDArray[np.int64]]) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
        """Each batch of row numbers with its pictures."""
        waiting: deque[tuple[NDArray[np.int64], list[Future[NDArray[np.uint8]]]]] = deque()
        for batch in rows:
            if self._pixels is not None:
                started = time.perf_counter()
                found = self._pixels[torch.from_numpy(batch).to(self._pixels.device, non_blocking=True)].to(self.device)
                self.waited += time.perf_counter() - started
                yield batch, found
                continue
            waiting.append((batch, [self._pool.submit(self._decode, int(i)) for i in batch]))
            if len(waiting) > AHEAD:
                yield self._collect(*waiting.popleft())
        while waiting:
            yield self._collect(*waiting.popleft())

    def _collect(
        self, batch: NDArray[np.int64], pictures: list[Future[NDArray[np.uint8]]]
    ) -> tuple[NDArray[np.int64], Tensor]:
        started = time.perf_counter()
        found = torch.from_numpy(np.stack([p.result() for p in pictures])).to(self.device)
        self.waited += time.perf_counter() - started
        return batch, found

    def _decode(self, row: int) -> NDArray[np.uint8]:
        return images.resize(images.read(self.crops[row].path), *self.size)


@dataclass(frozen=True, slots=True)
class Data:
    """What is trained on, and the people held out of each data set.

    Attributes:
        crops: N to train on; people and cameras of several data sets are kept apart by their names.
        labels, cameras, sets: (N,) integers: person, camera and data set of each crop.
        people: how many.
        validation: (query, gallery) by name of the data set.
        facts: that say what data they are.
    """

    crops: list[Crop]
    labels: Integers
    cameras: Integers
    sets: Integers
    people: int
    validation: dict[str, Held]
    facts: dict[str, Any]

    @classmethod
    def of(cls, sets: Mapping[str, Sequence[Crop]], held: int, tell: Callable[[str], None]) -> Data:
        crops: list[Crop] = []
        sizes: list[int] = []
        validation: dict[str, Held] = {}
        fingerprints = []
        for name, theirs in sets.items():
            good, broken, fingerprint = readable(theirs)
            for reason in broken:
                tell(f"left out: {reason}")
            kept, *both = hold_out(good, held)
            query, gallery = both[0], both[1] or both[0]  # where each crop is a query, among themselves
            if query:
                protocol_for(query, gallery)
            crops += [replace(c, pid=f"{name}:{c.pid}", camera=f"{name}:{c.camera}") for c in kept] if name else kept
            validation |= {name: (query, gallery)} if query else {}
            fingerprints.append(fingerprint)
            sizes.append(len(kept))
        if not crops:
            raise DataError("nobody is left to train on; give crops with people's names, or hold out fewer people")
        names, labels = np.unique([str(c.pid) for c in crops], return_inverse=True)
        if len(names) < 2:
            others = " beside those held out; hold out fewer" if validation else ""
            raise DataError(f"training needs crops of two people or more, and there is one{others}")
        _, cameras = np.unique([str(c.camera) for c in crops], return_inverse=True)
        facts = {"sets": list(sets), "fingerprints": fingerprints, "people": len(names), "crops": len(crops)}
        return cls(crops, labels, cameras, np.repeat(np.arange(len(sizes)), sizes), len(names), validation, facts)

    def targets(self, rows: Integers) -> Tensor:
        """Labels of some rows."""
        return torch.from_numpy(self.labels[rows])


def readable(crops: Sequence[Crop]) -> tuple[list[Crop], list[str], str]:
    """Look at every picture once: (crops that can be decoded, why each other one cannot, fingerprint).

    The fingerprint covers the pictures' bytes, people and cameras, in order; file names and places do not count.
    """
    digest, good, reasons = hashlib.sha256(), [], []

    def look(crop: Crop) -> bytes | ImageError:
        try:
            data = images.read_bytes(crop.path)
            images.decode(data, crop.path)
        except ImageError as error:
            return error
        return hashlib.sha256(data).digest()

    with ThreadPoolExecutor() as pool:
        for crop, found in zip(crops, pool.map(look, crops), strict=True):
            if isinstance(found, ImageError):
                reasons.append(str(found))
                continue
            good.append(crop)
            digest.update(found + f"{crop.pid}\n{crop.camera}\n".encode())
    return good, reasons, digest.hexdigest()[:16]
