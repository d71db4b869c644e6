"""Crops in, vectors out: decoding in threads beside inference, in order, in constant memory."""

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
import onnxruntime

from reid import images
from reid.cache import Cache
from reid.distance import normalise
from reid.errors import ImageError, ModelError
from reid.images import RGB, Preprocess
from reid.types import Crop, Embeddings, Vectors

DEFAULT_MODEL = "osnet_x0_5_market"
LARGEST_MODEL = 2 << 30
METADATA = "reid"


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
        model: path of an ONNX file, or the name of a model that comes with reid.
        preprocess: how to feed a file that does not say so itself.
        views: replaces the file's test-time views: "plain", "mirror" or "ten".
        threads: for inference; every core by default.
        batch: images per inference.
        cache: where embeddings of pictures seen before are found.

    Attributes:
        preprocess: size, channel order, scaling and views.
        dim: length of an embedding.
        fingerprint: of the model file and what was replaced; embeddings of different fingerprints do not mix.
        card: what the file says of itself: training data, scores, licence.
        seconds: spent so far on "decode", added up over its threads, on "waiting" for them, and on "inference".

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
    ):
        path = find_model(model)
        data = read_model(path)
        self.name, self.batch, self.cache = path.stem, batch, cache
        self._session = _open_session(data, path, threads or os.cpu_count() or 1)
        stated = self._session.get_modelmeta().custom_metadata_map.get(METADATA)
        self.card: dict[str, Any] = json.loads(stated) if stated else {}
        if preprocess is None and "preprocess" not in self.card:
            raise ModelError(
                f"{path} does not say how it wants its pictures (size, colours, scaling); "
                "give preprocess=Preprocess(...), or use a file that `reid train` wrote"
            )
        self.preprocess = preprocess or Preprocess(**self.card["preprocess"])
        if views:
            self.preprocess = replace(self.preprocess, views=views)
        given = json.dumps(asdict(self.preprocess), sort_keys=True)
        self.fingerprint = hashlib.sha256(hashlib.sha256(data).digest() + given.encode()).hexdigest()[:16]
        self._input = self._session.get_inputs()[0].name
        self.seconds = {"decode": 0.0, "waiting": 0.0, "inference": 0.0}
        self._fixed = _fixed_batch(self._session)
        self.dim = int(self.vectors(np.zeros((1, self.preprocess.height, self.preprocess.width, 3), np.uint8)).shape[1])

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
        return np.concatenate([self._run(checked[i : i + self.batch]) for i in range(0, len(checked), self.batch)])

    def stream(self, crops: Iterable[Crop | str | os.PathLike[str]]) -> Iterator[Batch]:
        """Embed any number of crops in constant memory, in order, broken pictures left out and named.

        Threads read and decode the next batches while the network works on the present one.
        """
        source = (c if isinstance(c, Crop) else Crop(os.fspath(c)) for c in crops)
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            ahead: deque[Future[_Decoded]] = deque()
            try:
                while True:
                    while len(ahead) < workers + 2 and (chunk := list(islice(source, self.batch))):
                        ahead.append(pool.submit(self._decode, chunk))
                    if not ahead:
                        return
                    started = time.perf_counter()
                    decoded = ahead.popleft().result()
                    self.seconds["waiting"] += time.perf_counter() - started
                    yield self._finish(decoded)
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def _decode(self, crops: list[Crop]) -> _Decoded:
        """Runs in a thread: file contents, and from them cached vectors or views to compute them from."""
        started = time.perf_counter()
        good: list[Crop] = []
        skipped: list[Skipped] = []
        digests: list[bytes] = []
        contents: list[bytes] = []
        for crop in crops:
            try:
                contents.append(images.read_bytes(crop.path))
            except ImageError as error:
                skipped.append(Skipped(crop, str(error)))
                continue
            good.append(crop)
            digests.append(hashlib.blake2b(contents[-1], digest_size=16).digest() if self.cache else b"")
        known = self.cache.get(digests) if self.cache else {}
        views: dict[int, list[RGB]] = {}
        for i, (crop, digest, data) in enumerate(zip(good, digests, contents, strict=True)):
            if digest in known:
                continue
            try:
                views[i] = self.preprocess.look(images.decode(data, crop.path))
            except ImageError as error:
                skipped.append(Skipped(crop, str(error)))
        return _Decoded(good, digests, known, views, skipped, time.perf_counter() - started)

    def _finish(self, decoded: _Decoded) -> Batch:
        self.seconds["decode"] += decoded.seconds
        fresh = list(decoded.views)
        vectors = dict(zip(fresh, self._embed_views(list(decoded.views.values())), strict=True))
        if self.cache and fresh:
            self.cache.put({decoded.digests[i]: vectors[i] for i in fresh})
        for i, digest in enumerate(decoded.digests):
            if digest in decoded.known:
                vectors[i] = decoded.known[digest]
        order = sorted(vectors)
        stacked = np.stack([vectors[i] for i in order]) if order else np.empty((0, self.dim), np.float32)
        return Batch(tuple(decoded.crops[i] for i in order), stacked, tuple(decoded.skipped))

    def _run(self, pictures: list[RGB]) -> Vectors:
        return self._embed_views([self.preprocess.look(p) for p in pictures])

    def _embed_views(self, views: list[list[RGB]]) -> Vectors:
        """One vector per image from its views: their mean, at unit length where the model's vectors have that."""
        if not views:
            return np.empty((0, self.dim), np.float32)
        each = self.vectors(np.stack([v for looks in views for v in looks])).reshape(len(views), len(views[0]), -1)
        if each.shape[1] == 1:
            return each[:, 0]
        mean: Vectors = each.mean(axis=1)
        unit = np.allclose(np.linalg.norm(each, axis=2), 1, atol=1e-3)
        return normalise(mean) if unit else mean

    def vectors(self, batch: RGB) -> Vectors:
        """(N, height, width, 3) bytes of the model's own size to (N, D): inference and nothing else."""
        started = time.perf_counter()
        ready = self.preprocess.prepare(batch)
        step = self._fixed or len(ready)
        outputs = []
        for start in range(0, len(ready), step):
            part = ready[start : start + step]
            missing = step - len(part)
            if missing:
                part = np.concatenate([part, np.zeros((missing, *part.shape[1:]), part.dtype)])
            out = np.asarray(self._session.run(None, {self._input: part})[0], dtype=np.float32)
            outputs.append(out.reshape(len(out), -1)[: step - missing])
        self.seconds["inference"] += time.perf_counter() - started
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)


class _Decoded(NamedTuple):
    crops: list[Crop]
    digests: list[bytes]
    known: dict[bytes, Vectors]
    views: dict[int, list[RGB]]
    skipped: list[Skipped]
    seconds: float


def models() -> list[str]:
    """Names of the models that come with reid."""
    shipped = resources.files("reid") / "weights"
    return sorted(Path(file.name).stem for file in shipped.iterdir() if file.name.endswith(".onnx"))


def find_model(model: str | os.PathLike[str]) -> Path:
    """The file behind a path or the name of a shipped model."""
    if Path(model).is_file():
        return Path(model)
    shipped = Path(str(resources.files("reid") / "weights" / f"{os.fspath(model)}.onnx"))
    if shipped.is_file():
        return shipped
    raise ModelError(f"{os.fspath(model)} is neither a file nor a model that comes with reid ({', '.join(models())})")


def read_model(path: Path) -> bytes:
    """A model file's content, refused where it is too large."""
    if path.stat().st_size > LARGEST_MODEL:
        raise ModelError(f"{path} has {path.stat().st_size >> 20} MiB; a model may have {LARGEST_MODEL >> 20} MiB")
    return path.read_bytes()


def _open_session(data: bytes, path: Path, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(f"{path} is not an ONNX model that can be run ({reason})") from None


def _fixed_batch(session: onnxruntime.InferenceSession) -> int | None:
    """The batch size baked into a model, or None where it is free."""
    first = session.get_inputs()[0].shape[0]
    return first if isinstance(first, int) and first > 0 else None
