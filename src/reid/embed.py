"""Crops in, vectors out: every core busy, in order, in constant memory."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, replace
from importlib import resources
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from reid import images
from reid.distance import normalise
from reid.engines import Engine, able, open_engine, reopen
from reid.errors import ImageError, ModelError, ShapeError
from reid.images import RGB, Preprocess
from reid.types import Crop, Embeddings, Vectors

if TYPE_CHECKING:
    from reid.cache import Cache

DEFAULT_MODEL = "general"
ENOUGH = 2048
"""Pictures after which an embedder looks for the fastest engine, which takes as long as several hundred of them."""


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
        batch: images per inference; by default what suits the device, 16 on a CPU.
        cache: where embeddings of pictures seen before are found.
        engine: "onnxruntime", "openvino" or "torch". By default a file is opened with the one that is open soonest,
            and after ENOUGH pictures changed to the one that is fastest on this machine (`engines.choice`).
        precision: to compute in: "fp32", "bf16" in OpenVINO and PyTorch, "fp16" in PyTorch on a GPU. Embeddings of
            fp32 are the same in all engines up to rounding; those of any other have a fingerprint of their own.

    Attributes:
        preprocess: size, channel order, scaling and views.
        dim: length of an embedding.
        fingerprint: of the model file and what was replaced; embeddings of different fingerprints do not mix.
        card: what the file says of itself: training data, scores, licence, how it was exported.
        engine: what runs the file now.
        precision: what it computes in.
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
        batch: int | None = None,
        cache: Cache | None = None,
        like: str | None = None,
        engine: str | None = None,
        precision: str | None = None,
    ):
        self._path = path = find_model(model)
        self.name, self.cache, self.precision = path.stem, cache, precision or "fp32"
        self.threads = threads or os.cpu_count() or 1
        own = open_engine(path)
        self.card: dict[str, Any] = own.about
        self.preprocess = preprocess or _wanted(path, own, like)
        if views:
            self.preprocess = replace(self.preprocess, views=views)
        given = json.dumps(asdict(self.preprocess), sort_keys=True)
        given += "" if self.precision == "fp32" else self.precision
        self.fingerprint = hashlib.sha256(hashlib.sha256(own.data).digest() + given.encode()).hexdigest()[:16]
        if self.precision != "fp32" and engine is None:
            engine = next((name for name in able(path) if name != "onnxruntime"), "onnxruntime")
        self.engine: Engine = reopen(path, own, self.preprocess, engine or own.name, self.precision)
        self._batch, self._choosing = batch, threading.Lock()
        self._left = 0 if engine else ENOUGH
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
            ShapeError: what was given is one picture instead of several, or pictures that are decoded already.
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
        self.settle(len(checked))
        step, threads = self._split(len(checked))

        def work(start: int) -> Vectors:
            return self.views([self.preprocess.look(p) for p in checked[start : start + step]], threads)

        if step == len(checked):
            return work(0)
        with ThreadPoolExecutor(self.threads) as pool:
            return np.concatenate(list(pool.map(work, range(0, len(checked), step))))

    def stream(self, crops: Iterable[Crop | str | os.PathLike[str]]) -> Iterator[Batch]:
        """Embed any number of crops in constant memory, in order, broken pictures left out and named.

        Each thread reads, decodes and embeds whole batches on its own. That keeps the cores busier than sharing each
        inference among them, where one thread that is still decoding holds up all the others.
        """
        rest = _named(crops)
        first = list(islice(rest, self.batch * self.threads))
        step, threads = self._split(len(first))
        source = chain(first, rest)
        if len(first) <= step and len(first) < self.batch * self.threads:  # nothing to share out
            if first:
                self.settle(len(first))
                done = self._work(first, threads)
                self.seconds["waiting"] += done[1] + done[2]
                yield self._added_up(done)
            return
        with ThreadPoolExecutor(self.threads, thread_name_prefix="embed") as pool:
            ahead: deque[Future[tuple[Batch, float, float]]] = deque()
            try:
                while True:
                    while len(ahead) < 2 * self.threads and (chunk := list(islice(source, step))):
                        self.settle(len(chunk), ahead)
                        ahead.append(pool.submit(self._work, chunk, threads))
                    if not ahead:
                        return
                    started = time.perf_counter()
                    done = ahead.popleft().result()
                    self.seconds["waiting"] += time.perf_counter() - started
                    yield self._added_up(done)
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _added_up(self, done: tuple[Batch, float, float]) -> Batch:
        """A batch, once the seconds that it took are accounted for."""
        self.seconds["decode"] += done[1]
        self.seconds["inference"] += done[2]
        return done[0]

    def settle(self, pictures: int, running: Iterable[Future[Any]] = ()) -> None:
        """Count pictures that are to come, and change to the fastest engine once they are ENOUGH.

        Args:
            pictures: how many more.
            running: work under way, which is waited for, so that what is timed has the cores to itself.
        """
        if self._left <= 0 or not self._choosing.acquire(blocking=False):
            return
        try:
            self._left -= pictures
            if self._left <= 0:
                from reid.engines.choice import fastest  # not needed by who looks at two pictures

                wait(running)
                self.engine = fastest(self._path, self.engine, self.preprocess, self.threads, self._batch)
        finally:
            self._choosing.release()

    @property
    def batch(self) -> int:
        """Images per inference."""
        return self._batch or self.engine.usual

    def _split(self, count: int) -> tuple[int, int]:
        """For so many pictures, how many make a batch and how many threads share its inference."""
        if self.engine.alone or count < self.threads:
            return max(1, min(self.batch, count)), self.threads
        return min(self.batch, -(-count // self.threads)), 1

    def _work(self, crops: list[Crop], threads: int) -> tuple[Batch, float, float]:
        """One batch, from file names to vectors; and the seconds that decoding and inference took."""
        started = time.perf_counter()
        skipped: list[Skipped] = []
        files: list[tuple[Crop, bytes, bytes]] = []
        for crop in crops:
            try:
                data = images.read_bytes(crop.path)
                files.append((crop, data, self.cache.digest(data) if self.cache else b""))
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
        for (i, _, _), vector in zip(fresh, self.views([looks for _, _, looks in fresh], threads), strict=True):
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
        engine = self.engine
        step = engine.batch or len(batch)
        outputs = []
        for start in range(0, len(batch), step):
            part = batch[start : start + step]
            missing = step - len(part)
            if missing:
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            out = engine.run(part, self.preprocess, threads or self.threads)
            if len(out) != step or sum(d > 1 for d in out.shape[1:]) > 1:
                raise ModelError(
                    f"{self.name} turns {step} pictures into {out.shape}; a model gives one vector for each"
                )
            outputs.append(out.reshape(len(out), -1)[: step - missing])
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


_NOT_YET = np.empty(0, np.float32)


def _named(crops: Iterable[Crop | str | os.PathLike[str]]) -> Iterator[Crop]:
    """Crops, of which some are given as paths."""
    if isinstance(crops, str | os.PathLike | Crop):
        raise ShapeError(f"one picture was given, {crops}; give a list of pictures, such as [{crops!r}]")
    for crop in crops:
        if not isinstance(crop, Crop | str | os.PathLike):
            raise ShapeError(
                f"a picture is {type(crop).__name__}; give paths or crops, and pictures that are decoded already to "
                "Embedder.arrays, as RGB arrays of shape (height, width, 3)"
            )
        yield crop if isinstance(crop, Crop) else Crop(os.fspath(crop))


def _wanted(path: Path, own: Engine, like: str | None) -> Preprocess:
    """How a model file wants its pictures, by its own word or by the name of a convention."""
    stated = own.about.get("preprocess")
    if like and stated and stated.get("inside"):
        raise ModelError(f"{path} takes pictures as they are and scales them itself; leave --like {like} out")
    if like:
        if own.height is None and ":" not in like and stated:
            like = f"{like}:{stated['height']}x{stated['width']}"
        return Preprocess.like(like, own.height, own.width)
    if stated is None:
        raise ModelError(
            f"{path} does not say how it wants its pictures (size, colours, scaling); name the convention with "
            f"--like or like= ({', '.join(images.CONVENTIONS)}), or give preprocess=Preprocess(...)"
        )
    return Preprocess.stated(stated, path)


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
