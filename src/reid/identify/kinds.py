"""Ways to tell enrolled people apart.

To add one, write a function from vectors and owners to `Learnt`, and name it in KINDS.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reid import distance
from reid.errors import DataError, MissingExtra, ShapeError
from reid.metrics import Rows
from reid.types import Vectors

SVM_C, LOGISTIC_C = 1.0, 10.0  # on vectors of mean length 1; chosen on training people, see docs/identify.md


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What tells people 0 … P − 1 apart.

    Attributes:
        points: (M, D) float32: enrolled crops, means, or the normals of planes.
        owners: (M,) ascending, whose each is; everybody owns at least one.
        offsets: (M,) float32 of planes; None where distances are Euclidean, from the nearest point of a person.

    Raises:
        ShapeError: shapes that do not fit, owners out of order, or values that are not finite.
    """

    points: Vectors
    owners: Rows
    offsets: Vectors | None = None

    def __post_init__(self) -> None:
        count = len(self.owners)
        steps = np.diff(self.owners, prepend=-1) if self.owners.ndim == 1 and count else np.array([-1])
        if self.points.ndim != 2 or len(self.points) != count or ((steps != 0) & (steps != 1)).any() or steps[0] != 1:
            raise ShapeError(
                f"points are {self.points.shape} and owners {self.owners.shape}; they must be (M, D) and (M,), and "
                "owners ascend from 0 without a gap"
            )
        if self.offsets is not None and self.offsets.shape != (count,):
            raise ShapeError(f"offsets are {self.offsets.shape} for {count} planes; give one each")
        for values in (self.points, self.offsets):
            if values is not None and not np.isfinite(values).all():
                raise ShapeError("a point or an offset is not finite")

    @property
    def people(self) -> int:
        return int(self.owners[-1]) + 1

    def distances(self, vectors: Vectors) -> Vectors:
        """(Q, D) to (Q, P) distances from each person, lower is closer; from a plane signed, below 0 on their side."""
        starts = np.flatnonzero(np.diff(self.owners, prepend=-1))
        if self.offsets is not None:
            return np.asarray(self.offsets - vectors @ self.points.T, dtype=np.float32)
        out = np.empty((len(vectors), len(starts)), dtype=np.float32)
        for rows, block in distance.blocks(vectors, self.points):
            np.minimum.reduceat(block, starts, axis=1, out=out[rows])
        return out


def nearest(vectors: Vectors, owners: Rows) -> Learnt:
    """Everybody is all their crops; the nearest one counts."""
    order = np.argsort(owners, kind="stable")
    return Learnt(vectors[order], owners[order])


def mean(vectors: Vectors, owners: Rows) -> Learnt:
    """Everybody is the mean of their crops, at unit length where vectors have that."""
    means = distance.means(vectors, owners)
    return Learnt(means, np.arange(len(means)))


def svm(vectors: Vectors, owners: Rows) -> Learnt:
    """A linear support vector machine for each person against all others (scikit-learn's LinearSVC, people even)."""
    _at_least_two(owners, "an SVM")
    made = _scikit("svm").LinearSVC(C=SVM_C, class_weight="balanced", random_state=0, max_iter=10_000)
    return _planes(made, vectors, owners)


def logistic(vectors: Vectors, owners: Rows) -> Learnt:
    """Multinomial logistic regression (scikit-learn's LogisticRegression, people even)."""
    _at_least_two(owners, "logistic regression")
    made = _scikit("linear_model").LogisticRegression(C=LOGISTIC_C, class_weight="balanced", max_iter=10_000)
    return _planes(made, vectors, owners)


KINDS: dict[str, Callable[[Vectors, Rows], Learnt]] = {
    "nearest": nearest,
    "mean": mean,
    "svm": svm,
    "logistic": logistic,
}
"""Ways by name; each takes (N, D) vectors and (N,) owners from 0 without a gap."""


def _planes(made: Any, vectors: Vectors, owners: Rows) -> Learnt:
    """Planes for vectors as they are, fitted on them at a mean length of 1, so that one penalty suits every model."""
    scale = float(np.linalg.norm(vectors, axis=1).mean()) or 1.0
    made.fit(vectors / scale, owners)
    normals, offsets = np.asarray(made.coef_) / scale, -np.asarray(made.intercept_)
    if len(normals) == 1:  # of two people, scikit-learn gives one plane
        normals, offsets = np.concatenate([-normals, normals]), np.concatenate([-offsets, offsets])
    people = np.arange(len(normals))
    return Learnt(normals.astype(np.float32), people, offsets.astype(np.float32))


def _at_least_two(owners: NDArray[np.integer], what: str) -> None:
    if not owners.any():
        raise DataError(
            f"one person is enrolled, and {what} tells one from others; enrol more, or use the kind nearest"
        )


def _scikit(part: str) -> Any:
    try:
        from importlib import import_module

        return import_module(f"sklearn.{part}")
    except ModuleNotFoundError:
        raise MissingExtra("fitting the kinds svm and logistic", "identify") from None
