"""Embeddings laid out on a plane, so that who is near whom in the embedding is near on the plane."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid.errors import DataError, MissingExtra
from reid.types import Vectors

Points = NDArray[np.float64]
FEWEST = 5  # crops on a map
FEWEST_HIGH = 0.4  # a map's height is at least that, in widths
_NOTHING = "all embeddings are the same, so there is nothing to map; were they made by a trained model?"


def _principal(vectors: Vectors) -> Points:
    """(N, 2) coordinates along the two directions in which the vectors vary most; the sign is fixed."""
    centred = vectors.astype(np.float64) - vectors.mean(axis=0, dtype=np.float64)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    axes = axes[:2] * np.sign(axes[np.arange(len(axes[:2])), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    return np.pad(centred @ axes.T, ((0, 0), (0, 2 - len(axes))))


def _pca(vectors: Vectors, near: int, seed: int) -> Points:
    return _principal(vectors)


def _tsne(vectors: Vectors, near: int, seed: int) -> Points:
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        raise MissingExtra("a t-SNE map", "plot") from None
    start = _principal(vectors)
    spread = start[:, 0].std()
    if not spread:
        raise DataError(_NOTHING)
    start = (1e-4 * start / spread).astype(np.float32)
    made = TSNE(perplexity=near, init=start, random_state=seed, n_jobs=1).fit_transform(vectors)
    return np.asarray(made, dtype=np.float64)


def _umap(vectors: Vectors, near: int, seed: int) -> Points:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ImportWarning)  # that TensorFlow, which is not used, is not installed
            from umap import UMAP
    except ImportError:
        raise MissingExtra("a UMAP map", "umap") from None
    made = UMAP(n_neighbors=near, random_state=seed, n_jobs=1, init="pca").fit_transform(vectors)
    return np.asarray(made, dtype=np.float64)


class Method(NamedTuple):
    """A way to lay out vectors.

    Attributes:
        name, source: what people call it, and where it is described.
        near: how many neighbours count, unless said otherwise.
        lay: (N, D) vectors, neighbours and seed to (N, 2).
        means: what can be read from it.
    """

    name: str
    source: str
    near: int
    lay: Callable[[Vectors, int, int], Points]
    means: str


_LOCAL = (
    "Neighbours on the map are neighbours in the embedding as far as that goes; axes, sizes of groups and the gaps "
)
METHODS = {
    "tsne": Method(
        "t-SNE", "van der Maaten and Hinton 2008", 30, _tsne, _LOCAL + "between them mean little (perplexity {})."
    ),
    "umap": Method(
        "UMAP", "McInnes, Healy and Melville 2018", 15, _umap, _LOCAL + "between them mean little ({} neighbours)."
    ),
    "pca": Method("PCA", "Pearson 1901", 0, _pca, "The two directions in which the embeddings vary most, to scale."),
}


def lay_out(vectors: Vectors, method: str = "tsne", near: int | None = None, seed: int = 0) -> Points:
    """Places on a plane: (N, 2), x from 0 to 1 and y from 0 downwards at the same scale.

    Args:
        vectors: (N, D).
        method: a name from METHODS.
        near: how many neighbours count: t-SNE's perplexity, UMAP's number of neighbours; the method's own by default,
            fewer where there are few vectors.
        seed: the same seed gives the same map, given the same versions of the libraries.

    Raises:
        DataError: an unknown method, too few vectors, or as many neighbours as vectors.
        MissingExtra: the package that does it is not installed.
    """
    if method not in METHODS:
        raise DataError(f"method is {method!r}; it can be {', '.join(METHODS)}")
    if len(vectors) < FEWEST:
        raise DataError(f"a map needs at least {FEWEST} crops; {len(vectors)} were given")
    if near is not None and not 2 <= near < len(vectors):
        raise DataError(f"{near} neighbours were asked for, of {len(vectors)} crops; ask for 2 to {len(vectors) - 1}")
    near = near or neighbours(len(vectors), method)
    return _fit(METHODS[method].lay(vectors, near, seed))


def neighbours(crops: int, method: str) -> int:
    """How many count by default."""
    return max(2, min(METHODS[method].near, (crops - 1) // 3))


def _fit(points: Points) -> Points:
    """Turned so that the map is wide rather than high, and scaled."""
    turned = _principal(points.astype(np.float32))
    turned -= turned.min(axis=0)
    wide, high = turned.max(axis=0)
    if not wide:
        raise DataError(
            "all crops fall on one place, so there is nothing to map; were they embedded by a trained model?"
        )
    turned /= wide
    if high / wide < FEWEST_HIGH:  # nearly a line: in the middle of a map of some height
        turned[:, 1] += (FEWEST_HIGH - high / wide) / 2
    return turned
