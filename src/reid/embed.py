"""Crops in, vectors out: every core busy, in order, in constant memory."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from reid import images
from reid.cache import Cache
from reid.distance import normalise
from reid.engines import open_engine
from reid.errors import ImageError, ModelError
from reid.images import RGB, Preprocess
from reid.types import Crop, Embeddings, Vectors

DEFAULT_MODEL = "general"


class Skipped(NamedTuple):
    """A crop that could not be embedded, and why."""

    crop: Crop
    reason: str


@dataclass(frozen=True, slots=True)
class Batch:
    """A few consecutive crops in the order they came: those that worked, with vectors, and those that did not."""

    crops: tuple[Crop, ...]
    vectors: Vectors
    skipped: tuple[Skipped, ...]


class Embedder:
    """Runs a model file on crops.

    Args:
        model: path of an ONNX file, OpenVINO's `.xml`, a weights file that `reid train` or another toolkit wrote (see
            docs/convert.md), or the name of a model that comes with reid.
        preprocess: how to feed a file that does not say so itself.
        like: the same by the name of a convention, as for `Preprocess.like`.
        views: replaces the file's test-time views: "plain", "mirror" or "ten".
        threads: that work at once; one a core by default.
        batch: images per inference.
        cache: where embeddings of pictures seen before are found.

    Attributes:
        preprocess: size, channel order, scaling and views.
        dim: length of an embedding.
        fingerprint: of the model file and what was replaced; embeddings of different fingerprints do not mix.
        card: what the file says of itself: training data, scores, licence.
        engine: what opened the file.
        seconds: spent so far in `stream` on "decode" and "inference", each added up over the threads, and "waiting" for
            them, which is what passed on the clock.

    Raises:
        ModelError: the file is missing, damaged or of a form that is not understood.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        preprocess: Preprocess | None = None,
        views: str | None = None,
        threads: int | None = None,
        batch: int = 16,
        cache: Cache | None = None,
        like: str | None = None,
    ):
        path = find_model(model)
        self.name, self.batch, self.cache = path.stem, batch, cache
        self.threads = threads or os.cpu_count() or 1
        self.engine = engine = open_engine(path)
        self.card: dict[str, Any] = engine.about
        if preprocess is None and like:
            usual = self.card.get("preprocess", {})
            if engine.height is None and ":" not in like and usual:
                like = f"{like}:{usual['height']}x{usual['width']}"
            preprocess = Preprocess.like(like, engine.height, engine.width)
        if preprocess is None and "preprocess" not in self.card:
            raise ModelError(
                f"{path} does not say how it wants its pictures (size, colours, scaling); name the convention with "
                f"--like or like= ({', '.join(images.CONVENTIONS)}), or give preprocess=Preprocess(...)"
            )
        self.preprocess = preprocess or Preprocess.stated(self.card["preprocess"], path)
        if views:
            self.preprocess = replace(self.preprocess, views=views)
        given = json.dumps(asdict(self.preprocess), sort_keys=True)
        self.fingerprint = hashlib.sha256(hashlib.sha256(engine.data).digest() + given.encode()).hexdigest()[:16]
        self.seconds = {"decode": 0.0, "waiting": 0.0, "inference": 0.0}
        nothing = np.zeros((1, self.preprocess.height, self.preprocess.width, 3), np.uint8)
        self.dim = int(self.vectors(nothing, threads=1).shape[1])

    def __call__(
        self,
        crops: Iterable[Crop | str | os.PathLike[str]],
        progress: Callable[[int], None] | None = None,
        on_skip: Callable[[Skipped], None] | None = None,
    ) -> Embeddings:
        """Embed crops or paths, all in memory. For more than fits, use `stream`.

        Args:
            crops: what to embed.
            progress: called with the number of crops done since the last call.
            on_skip: called for each picture that cannot be read; without it the first one raises.

        Raises:
            ImageError: a picture cannot be read and no `on_skip` was given.
        """
        done: list[Batch] = []
        for batch in self.stream(crops):
            for skipped in batch.skipped:
                if on_skip is None:
                    raise ImageError(skipped.reason)
                on_skip(skipped)
            if progress:
                progress(len(batch.crops) + len(batch.skipped))
            done.append(batch)
        vectors = [b.vectors for b in done] or [np.empty((0, self.dim), np.float32)]
        return Embeddings(np.concatenate(vectors), tuple(c for b in done for c in b.crops), self.fingerprint)

    def arrays(self, pictures: Sequence[RGB]) -> Vectors:
        """Embed decoded pictures, each (H, W, 3) uint8 RGB of any size, to (N, D)."""
        checked = [images.check_rgb(p, f"picture {i}") for i, p in enumerate(pictures)]
        if not checked:
            return np.empty((0, self.dim), np.float32)
        step = self.batch
        looks = ([self.preprocess.look(p) for p in checked[i : i + step]] for i in range(0, len(checked), step))
        return np.concatenate([self.views(part) for part in looks])

    def stream(self, crops: Iterable[Crop | str | os.PathLike[str]]) -> Iterator[Batch]:
        """Embed any number of crops in constant memory, in order, broken pictures left out and named.

        Each thread reads, decodes and embeds whole batches on its own. That keeps the cores busier than sharing each
        inference among them, where one thread that is still decoding holds up all the others.
        """
        source = (c if isinstance(c, Crop) else Crop(os.fspath(c)) for c in crops)
        with ThreadPoolExecutor(self.threads, thread_name_prefix="embed") as pool:
            ahead: deque[Future[tuple[Batch, float, float]]] = deque()
            try:
                while True:
                    while len(ahead) < 2 * self.threads and (chunk := list(islice(source, self.batch))):
                        ahead.append(pool.submit(self._work, chunk))
                    if not ahead:
                        return
                    started = time.perf_counter()
                    batch, decoding, inference = ahead.popleft().result()
                    self.seconds["waiting"] += time.perf_counter() - started
                    self.seconds["decode"] += decoding
                    self.seconds["inference"] += inference
                    yield batch
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _work(self, crops: list[Crop]) -> tuple[Batch, float, float]:
        """One batch, from file names to vectors; and the seconds that decoding and inference took."""
        started = time.perf_counter()
        skipped: list[Skipped] = []
        files: list[tuple[Crop, bytes, bytes]] = []
        for crop in crops:
            try:
                data = images.read_bytes(crop.path)
                files.append((crop, data, hashlib.blake2b(data, digest_size=16).digest() if self.cache else b""))
            except ImageError as error:
                skipped.append(Skipped(crop, str(error)))
        vectors = self.cache.get([digest for _, _, digest in files]) if self.cache else {}
        good: list[tuple[Crop, Vectors]] = []
        fresh: list[tuple[int, bytes, list[RGB]]] = []
        for crop, data, digest in files:
            try:
                if digest not in vectors:
                    fresh.append((len(good), digest, self.preprocess.look(images.decode(data, crop.path))))
                good.append((crop, vectors.get(digest, _NOT_YET)))
            except ImageError as error:
                skipped.append(Skipped(crop, str(error)))
        decoded = time.perf_counter()
        for (i, _, _), vector in zip(fresh, self.views([looks for _, _, looks in fresh], 1), strict=True):
            good[i] = (good[i][0], vector)
        if self.cache and fresh:
            self.cache.put({digest: good[i][1] for i, digest, _ in fresh})
        stacked = np.stack([v for _, v in good]) if good else np.empty((0, self.dim), np.float32)
        batch = Batch(tuple(crop for crop, _ in good), stacked, tuple(skipped))
        return batch, decoded - started, time.perf_counter() - decoded

    def views(self, looks: Sequence[Sequence[RGB]], threads: int | None = None) -> Vectors:
        """(N, D) of N pictures from what `preprocess.look` made of each: the mean over its views, at unit length where
        the model's vectors have that."""
        if not looks:
            return np.empty((0, self.dim), np.float32)
        views = np.stack([view for each in looks for view in each])
        each = self.vectors(views, threads).reshape(len(looks), len(looks[0]), -1)
        if each.shape[1] == 1:
            return each[:, 0]
        mean: Vectors = each.mean(axis=1)
        unit = np.allclose(np.linalg.norm(each, axis=2), 1, atol=1e-3)
        return normalise(mean) if unit else mean

    def vectors(self, batch: RGB, threads: int | None = None) -> Vectors:
        """(N, height, width, 3) bytes of the model's own size to (N, D): inference and nothing else."""
        ready = self.preprocess.prepare(batch)
        step = self.engine.batch or len(ready)
        outputs = []
        for start in range(0, len(ready), step):
            part = ready[start : start + step]
            missing = step - len(part)
            if missing:
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            out = self.engine.run(part, threads or self.threads)
            if len(out) != step or sum(d > 1 for d in out.shape[1:]) > 1:
                raise ModelError(
                    f"{self.name} turns {step} pictures into {out.shape}; a model gives one vector for each"
                )
            outputs.append(out.reshape(len(out), -1)[: step - missing])
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


_NOT_YET = np.empty(0, np.float32)


def models() -> list[str]:
    """Names of the models that come with reid."""
    shipped = resources.files("reid") / "weights"
    return sorted(
        Path(file.name).stem for file in shipped.iterdir() if file.name.endswith(".onnx") and file.name.count(".") == 1
    )


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file behind a path or the name of a shipped model."""
    if Path(model).is_file():
        return Path(model)
    shipped = Path(str(resources.files("reid") / "weights" / f"{os.fspath(model)}.onnx"))
    if shipped.is_file():
        return shipped
    raise ModelError(f"{os.fspath(model)} is neither a file nor a model that comes with reid ({', '.join(models())})")


def pair_head(model: str | os.PathLike[str]) -> Path:
    """Where a model file's head for pairs lies, if it has one: `mine.pairs.onnx` beside `mine.onnx`."""
    return Path(model).with_suffix(".pairs.onnx")
