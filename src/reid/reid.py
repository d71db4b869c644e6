"""The three lines that users of jutanke/person_reid know.

from reid import reid

model = reid.ReId()
score = model.predict(im1, im2)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from itertools import islice
from typing import overload

import numpy as np

from reid import images, quality
from reid.embed import DEFAULT_MODEL, Embedder, Skipped, find_model, pair_head
from reid.engines import open_session, read_model
from reid.errors import ImageError, ModelError, ShapeError
from reid.images import RGB
from reid.types import Crop, Vectors, Verdict
from reid.verify import Verifier, beside
from reid.verify.curve import Floats, sigmoid
from reid.verify.verifier import distances
from reid.wording import model_named

CHUNK = 256  # pictures in memory at once
Pictures = RGB | Sequence[RGB]


class ReId:
    """Says of two pictures how likely they show one person.

    It compares embeddings and asks a calibration what their distance means; or, if told so, a head for pairs that was
    trained with the network (`densenet121`, loss `pair-cross-entropy`). No model that comes with reid has such a head.

    Args:
        model: path of an ONNX file, or the name of a model that comes with reid.
        calibration: a file that `reid verify --fit` wrote, or a Verifier; by default the one beside the model.
        views: replaces the model's test-time views, for which the calibration must have been fitted.
        threads: that work at once; one a core by default.
        head: judge by the head that `reid export` wrote beside the model, without calibration.
        engine, precision: as for `Embedder`; another precision needs a calibration that was fitted with it.
        like: the convention of a model file that does not say how it wants its pictures, as for `Embedder`.

    Attributes:
        embedder: makes embeddings.
        verifier: makes probabilities of their distances.

    Raises:
        ModelError: the model or its calibration cannot be found or read, or the two do not belong together.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] = DEFAULT_MODEL,
        calibration: str | os.PathLike[str] | Verifier | None = None,
        views: str | None = None,
        threads: int | None = None,
        head: bool = False,
        engine: str | None = None,
        precision: str | None = None,
        like: str | None = None,
    ):
        if head and calibration is not None:
            raise ModelError("a head for pairs judges without a calibration; give one or the other")
        self._head = _Head(model) if head else None
        self.embedder = Embedder(model, views=views, threads=threads, engine=engine, precision=precision, like=like)
        if head:
            return
        self.verifier = calibration if isinstance(calibration, Verifier) else load(model, calibration)
        if self.verifier.doubt and self.verifier.doubt.measures != quality.MEASURES:
            raise ModelError(
                f"the calibration goes by {', '.join(self.verifier.doubt.measures)}, and crops are measured by "
                f"{', '.join(quality.MEASURES)}; fit it again with `reid verify --fit`"
            )
        if self.embedder.fingerprint != self.verifier.model:
            raise ModelError(
                f"the calibration was fitted for model {model_named(self.verifier.model)} and {self.embedder.name} is "
                f"{self.embedder.fingerprint} here; fit one with `reid verify --fit` and the same --model, --views "
                "and --precision"
            )

    @overload
    def predict(self, a: RGB, b: RGB) -> float: ...

    @overload
    def predict(self, a: Sequence[RGB], b: Sequence[RGB]) -> Floats: ...

    def predict(self, a: Pictures, b: Pictures) -> float | Floats:
        """How likely two pictures show one person, in [0, 1]; above a half means same. The order does not matter.

        Args:
            a, b: an RGB array (H, W, 3) of uint8 each, of any size; or two equally long lists of such, for the first
                with the first, the second with the second, and so on. A picture that is listed more than once, the same
                array, is looked at once.

        Returns:
            A number for two pictures, (N,) for two lists.

        Raises:
            ShapeError: a picture is not such an array, or the lists are not equally long.
        """
        first, second = _listed(a, "the first"), _listed(b, "the second")
        if _is_one(a) != _is_one(b) or len(first) != len(second):
            raise ShapeError(
                f"{_said(a)} cannot be compared with {_said(b)}; give two pictures, or two equally long lists"
            )
        everything = list({id(picture): picture for picture in (*first, *second)}.values())
        row = {id(picture): i for i, picture in enumerate(everything)}
        vectors, measured = self.look(everything)
        left, right = ([row[id(picture)] for picture in side] for side in (first, second))
        if self._head:
            p = self._head(vectors[left], vectors[right])
        else:
            evidence = self.verifier.evidence(measured[left], measured[right])
            p = self.verifier.probability(distances(vectors[left], vectors[right]), None, evidence)
        return float(p[0]) if _is_one(a) else p

    def look(self, pictures: Sequence[RGB]) -> tuple[Vectors, Floats]:
        """(N, D) embeddings and (N, M) qualities of N pictures."""
        return self.embedder.arrays(pictures), quality.measures(pictures)

    def verify(
        self,
        pairs: Sequence[tuple[Crop, Crop]],
        far: float | None = None,
        on_skip: Callable[[Skipped], None] | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Verdict | None]:
        """Judge pairs of files, each file looked at once however many pairs it is in.

        Args:
            pairs: their cameras are used where the calibration knows them.
            far: decide by the threshold for this false-accept rate, instead of by what is more likely.
            on_skip: called for each picture that cannot be read, whose pairs get None; without it the first one raises.
            progress: called with the number of pictures done since the last call.

        Raises:
            ImageError: a picture cannot be read and no `on_skip` was given.
            DataError: the calibration does not reach to that false-accept rate.
            ModelError: it judges by a head, which knows no thresholds.
        """
        if self._head:
            raise ModelError(
                "a head for pairs gives probabilities and knows no thresholds; use predict, or a calibration"
            )
        if far is not None:
            self.verifier.at(far)
        files = {crop.path: crop for pair in pairs for crop in pair}
        seen: dict[str, tuple[Vectors, Floats]] = {}
        waiting = iter(files.values())
        while chunk := list(islice(waiting, CHUNK)):
            pictures: dict[str, RGB] = {}
            for crop in chunk:
                try:
                    pictures[crop.path] = images.read(crop.path)
                except ImageError as error:
                    if on_skip is None:
                        raise
                    on_skip(Skipped(crop, str(error)))
            seen |= zip(pictures, zip(*self.look(list(pictures.values())), strict=True), strict=True)
            if progress:
                progress(len(chunk))
        judged = [i for i, pair in enumerate(pairs) if all(crop.path in seen for crop in pair)]
        if not judged:
            return [None] * len(pairs)
        left, right = ([seen[pairs[i][side].path] for i in judged] for side in (0, 1))
        (v, q), (w, r) = (map(np.array, zip(*side, strict=True)) for side in (left, right))
        cameras = [(pairs[i][0].camera, pairs[i][1].camera) for i in judged]
        found = dict(zip(judged, self.verifier.judge(distances(v, w), cameras, far, (q, r)), strict=True))
        return [found.get(i) for i in range(len(pairs))]


class _Head:
    """A head that judges pairs of embeddings."""

    def __init__(self, model: str | os.PathLike[str]):
        path = pair_head(find_model(model))
        if not path.is_file():
            raise ModelError(
                f"{os.fspath(model)} has no head for pairs beside it ({path.name}); train densenet121 with the loss "
                "pair-cross-entropy and export it, or leave head out to use a calibration"
            )
        self._session = open_session(read_model(path), path, 1)

    def __call__(self, first: Vectors, second: Vectors) -> Floats:
        """(N, D) and (N, D) to (N,) probabilities, the same either way round."""
        ways = ((first, second), (second, first))
        a, b = (np.asarray(self._session.run(None, {"first": v, "second": w})[0], float) for v, w in ways)
        return sigmoid((a + b) / 2)


def load(model: str | os.PathLike[str], calibration: str | os.PathLike[str] | None = None) -> Verifier:
    """The calibration of that name, or the one beside a model.

    Raises:
        DataError: it cannot be read.
        ModelError: there is no such model, or nothing beside it.
    """
    if calibration is not None:
        return Verifier.load(calibration)
    path = beside(find_model(model))
    if not path.is_file():
        raise ModelError(
            f"{os.fspath(model)} has no calibration beside it ({path.name}), so that its distances have no "
            "meaning yet; fit one on labelled crops with `reid verify --fit`"
        )
    return Verifier.load(path)


def _listed(pictures: Pictures, which: str) -> list[RGB]:
    """Pictures, checked, as a list."""
    if isinstance(pictures, np.ndarray) and pictures.ndim != 4:
        return [images.check_rgb(pictures, f"{which} picture")]
    if not isinstance(pictures, np.ndarray | Sequence) or isinstance(pictures, str | bytes):
        raise ShapeError(f"{which} picture is {type(pictures).__name__}; {images.WANTED}, or a list of such")
    return [images.check_rgb(picture, f"picture {i} of {which} list") for i, picture in enumerate(pictures)]


def _is_one(pictures: Pictures) -> bool:
    return isinstance(pictures, np.ndarray) and pictures.ndim == 3


def _said(pictures: Pictures) -> str:
    if _is_one(pictures):
        return "one picture"
    return f"a list of {len(pictures)} picture{'' if len(pictures) == 1 else 's'}"
