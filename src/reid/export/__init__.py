"""Weights and graphs to files that are fast to run, checked before they get their name."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch import nn

from reid import checkpoint, images, old
from reid.disk import replacing
from reid.drift import KEPT, Drift, batches, check_enough, chosen
from reid.embed import Embedder, Skipped, find_model, pair_head
from reid.errors import ModelError
from reid.evaluation import FEWEST_PEOPLE
from reid.export.files import place, save, told
from reid.export.smaller import SCHEMES, half, quantised
from reid.export.source import Source, from_graph, from_net
from reid.export.wrapping import wrap_onnx
from reid.images import RGB, Preprocess
from reid.types import Crop
from reid.verify import Verifier, beside

__all__ = [
    "INSIDE",
    "PRECISIONS",
    "Drift",
    "Export",
    "Exported",
    "export_model",
    "export_onnx",
    "wrap_onnx",
    "write_onnx",
]

PRECISIONS = ("fp32", "fp16", "int8")
INSIDE = ("nothing", "pixels", "views")
LEAST = {"fp32": 0.9999, "fp16": 0.999, "int8": -1.0}
"""Cosine to the network on noise; what eight bits do to noise says nothing, the sample decides."""
MOVED = 1e-3
"""Of a vector's length that it may differ from the source's by, for a calibration to hold on."""
CALIBRATION = 256
"""Pictures that ranges are taken from."""


@dataclass(frozen=True, slots=True)
class Export:
    """How to write a model file.

    Attributes:
        precision: "fp32"; "fp16", weights stored in half precision and computed with in fp32; or "int8".
        inside: what lies in the file: "nothing" but the network, which then takes (N, 3, H, W) floats; "pixels", the
            preprocessing too, so that it takes (N, H, W, 3) bytes; or "views", the test-time views as well.
        views: replaces the test-time views that the weights name.
        net, like: as for `old.load`, where a file does not say it.
        drift: points of mAP that may change on the sample, with 95 % confidence.
    """

    precision: str = "fp32"
    inside: str = "pixels"
    views: str | None = None
    net: str | None = None
    like: str | None = None
    drift: float = 0.5

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("precision", self.precision, PRECISIONS),
            ("inside", self.inside, INSIDE),
            ("views", self.views or "plain", tuple(images.VIEWS)),
        ):
            if value not in allowed:
                raise ModelError(f"{what} is {value!r}; it can be {', '.join(allowed)}")
        if not 0 <= self.drift <= 100:
            raise ModelError(f"the drift allowed is {self.drift}; it is in points of mAP, 0 to 100")


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: its metadata, how far it drifts on the sample, None without one, and the calibration that lies
    beside it now, None where the source has none, or makes other vectors."""

    about: dict[str, Any]
    drift: Drift | None
    calibration: Path | None = None


def export_onnx(
    weights: str | os.PathLike[str], target: str | os.PathLike[str], card: dict[str, Any] | None = None
) -> None:
    """Write the network of a weights file as ONNX, and check it before it gets its name.

    A head that judges pairs is written beside it, as `mine.pairs.onnx` beside `mine.onnx`; `reid.ReId` can use it.

    Args:
        weights: what `reid train` wrote.
        target: the `.onnx` file to write.
        card: further facts for the file's metadata: data, licence, hardware.

    Raises:
        ModelError: the exported file's embeddings differ from the network's, at any of several batch sizes.
    """
    net, header = checkpoint.load_net(weights)
    write_onnx(net, header, target, card)


def write_onnx(
    net: nn.Module,
    header: dict[str, Any],
    target: str | os.PathLike[str],
    card: dict[str, Any] | None = None,
) -> None:
    """`export_onnx` for a network that is loaded already, and its header."""
    with tempfile.TemporaryDirectory() as folder:
        source = from_net(net, header, "pixels", None, Path(folder))
        _Trial(source, Export()).write(Path(target), Path(folder, "made.onnx"), card)


def export_model(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    how: Export = Export(),
    sample: Sequence[Crop] = (),
    card: dict[str, Any] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    on_skip: Callable[[Skipped], None] = lambda skipped: None,
) -> Exported:
    """Write a model as ONNX or OpenVINO's IR, after checking what becomes of its answers.

    Args:
        source: a weights file, ours or of another toolkit, an ONNX file, or the name of a model that comes with reid.
        target: `.onnx`, or `.xml`, which gets a `.bin` beside it.
        how: precision, what lies inside, and how far it may drift.
        sample: crops, labelled or not, to calibrate eight bits with and to measure the drift on. At most 1,000 of them
            are looked at, whole people by lot.
        card: further facts for the file's metadata.
        progress: called with the number of the sample's crops done since the last call.
        on_skip: called for each crop that cannot be read.

    Raises:
        ModelError: the file's embeddings differ from the network's on noise, or depend on the batch, or rankings of the
            sample drift by more than is allowed, or may as far as its people can tell.
        DataError: the sample is too small to rank.
        MissingExtra: a package is not installed.
    """
    out = Path(target)
    if out.suffix.lower() not in (".onnx", ".xml"):
        raise ModelError(f"{target} should end in .onnx, or in .xml for OpenVINO")
    if how.precision == "int8" and not sample:
        raise ModelError(
            "int8 needs crops to calibrate with and to measure its drift on; give a few hundred as the sample"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(source) if Path(source).is_file() else checkpoint.find(source)
        if path.suffix.lower() == ".onnx":
            found = from_graph(path, how.inside, how.views, how.like, Path(folder))
        else:
            found = from_net(*old.load(path, how.net, how.like), how.inside, how.views, Path(folder))
        made = Path(folder, f"made{out.suffix.lower()}")
        done = _Trial(found, how, sample, progress, on_skip).write(out, made, card)
    return replace(done, calibration=_carried(source, out, how.like))


def _carried(source: str | os.PathLike[str], target: Path, like: str | None) -> Path | None:
    """The calibration beside a model written beside its export too, if distances mean the same there."""
    path, own = find_model(source), beside(target)
    if not beside(path).is_file():
        return None
    verifier, before, after = Verifier.load(beside(path)), Embedder(path, like=like), Embedder(target)
    size = 8, before.preprocess.height, before.preprocess.width, 3
    noise = list(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    vectors = before.arrays(noise)
    moved = np.linalg.norm(after.arrays(noise) - vectors, axis=1) / np.linalg.norm(vectors, axis=1)
    if before.fingerprint != verifier.model or moved.max() > MOVED:
        return None
    if not (own.is_file() and Verifier.load(own).model == after.fingerprint):
        replace(verifier, model=after.fingerprint).save(own)
    return own


def _calibration(crops: Sequence[Crop], preprocess: Preprocess) -> RGB:
    """Pictures to calibrate with, of the size that a model takes: every so many-th crop, in its first view."""
    step = max(1, len(crops) // CALIBRATION)
    return np.stack([preprocess.look(images.read(crop.path))[0] for crop in crops[::step][:CALIBRATION]])


class _Trial:
    """A source and a sample, to try ways of writing on.

    Args:
        source: what is exported.
        how: the options.
        crops: the sample; empty for none.
        progress, on_skip: as for `export_model`.
    """

    def __init__(
        self,
        source: Source,
        how: Export,
        crops: Sequence[Crop] = (),
        progress: Callable[[int], None] = lambda done: None,
        on_skip: Callable[[Skipped], None] = lambda skipped: None,
    ):
        self._source, self._how, self._progress = source, how, progress
        self._before = source.reference(chosen(crops), progress, on_skip) if crops else None
        self._pictures: RGB | None = None
        if self._before:
            check_enough(self._before.crops)
            self._pictures = _calibration(self._before.crops, source.preprocess)

    def write(self, target: Path, made: Path, card: dict[str, Any] | None) -> Exported:
        """Make a file at `made`, check it, and only then put it where it is wanted."""
        about = {"preprocess": told(self._source.preprocess), **self._source.about, **(card or {})}
        compress = self._how.precision == "fp16"
        drift: Drift | None = None
        for scheme in SCHEMES if self._how.precision == "int8" else ("",):
            graph = self._graph(scheme, made.suffix)
            save(graph, about, made, compress)
            after = Embedder(made, engine="openvino" if made.suffix == ".xml" else "onnxruntime")
            checked = batches(after, self._source.reference.vectors, LEAST[self._how.precision])
            drift = self._drift(after)
            if drift is None or drift.within(self._how.drift):
                break
        else:
            raise ModelError(
                f"{target} is not written, because rankings change by more than is allowed ({self._limit}), or the "
                f"sample has too few people to tell: {drift}"
            )
        about["export"] = {"precision": self._how.precision, "inside": self._how.inside, "batches": checked}
        about["export"] |= {"quantised": scheme} if scheme else {}
        about["export"] |= {"sample": drift.fields(), "limit": self._how.drift} if drift else {}
        place(save(graph, about, made, compress), target)
        if self._source.head and target.suffix.lower() == ".onnx":
            with replacing(pair_head(target)) as partial:
                onnx.save(self._source.head, partial)
        return Exported(about, drift)

    @property
    def _limit(self) -> str:
        unlabelled = f"{100 - 100 * KEPT:.0f} % of the ten nearest"
        few = f"without labels or with fewer than {FEWEST_PEOPLE} people"
        return f"{self._how.drift:g} points of mAP with 95 % confidence; {few}, {unlabelled} too"

    def _graph(self, scheme: str, suffix: str) -> onnx.ModelProto:
        """The source's graph at the precision that is wanted."""
        if self._pictures is not None and scheme:
            return quantised(self._source.graph, self._pictures, self._source.preprocess, scheme)
        # OpenVINO casts to fp16 when it saves
        return half(self._source.graph) if self._how.precision == "fp16" and suffix == ".onnx" else self._source.graph

    def _drift(self, after: Embedder) -> Drift | None:
        if self._before is None:
            return None
        return Drift.between(self._before, replace(after(self._before.crops, self._progress), model=self._before.model))
