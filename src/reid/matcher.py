"""Search: which crops of a gallery are nearest to a query, among those that may be an answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid import data, files
from reid.distance import top_k
from reid.embed import Embedder, Skipped
from reid.errors import DataError, ModelError, ShapeError
from reid.evaluation import codes
from reid.gallery.address import is_address
from reid.gallery.gallery import Gallery
from reid.types import Embeddings, Ranking
from reid.wording import model_named


@dataclass(frozen=True, slots=True)
class Filter:
    """Which gallery crops may be answers.

    Attributes:
        other_cameras: only cameras other than the query's.
        cameras: only these cameras, where given.
        after, before: only crops whose time in seconds lies in this range, ends included; crops without a time are
            left out once either is given.
    """

    other_cameras: bool = False
    cameras: frozenset[str] | None = None
    after: float | None = None
    before: float | None = None

    def rows(self, gallery: Embeddings) -> NDArray[np.bool_]:
        """(G,) true for the gallery rows that may be an answer to any query."""
        kept = np.ones(len(gallery), dtype=bool)
        if self.cameras is not None:
            unknown = self.cameras - {c.camera for c in gallery.crops if c.camera}
            if unknown:
                have = ", ".join(sorted({c.camera for c in gallery.crops if c.camera})) or "no cameras"
                raise DataError(f"the gallery has no camera {', '.join(sorted(unknown))}; it has {have}")
            kept &= np.array([c.camera in self.cameras for c in gallery.crops], dtype=bool)
        if self.after is not None or self.before is not None:
            times = np.array([np.nan if c.time is None else c.time for c in gallery.crops])
            if np.isnan(times).all():
                raise DataError("the gallery's crops carry no times, so it cannot be restricted by time")
            kept &= (times >= (-np.inf if self.after is None else self.after)) & (
                times <= (np.inf if self.before is None else self.before)
            )
        return kept


def search(query: Embeddings, gallery: Embeddings, k: int = 10, only: Filter | None = None) -> Ranking:
    """The k nearest gallery crops of each query, exactly; a query is never an answer to itself (same path).

    Args:
        query: Q crops.
        gallery: G crops, embedded by the same model.
        k: answers per query; fewer where fewer are allowed.
        only: which crops may be answers; all by default.

    Returns:
        Ranking of (Q, k) gallery rows and Euclidean distances.

    Raises:
        ShapeError: what was given is not embeddings.
        ModelError: the embeddings come from two models.
        DataError: the filter asks for cameras or times the gallery does not know.
    """
    for what, given in (("query", query), ("gallery", gallery)):
        if not isinstance(given, Embeddings):
            raise ShapeError(f"the {what} is {type(given).__name__}; it must be Embeddings, which an Embedder makes")
    if query.model != gallery.model:
        raise ModelError(
            f"the query was embedded by model {model_named(query.model)} and the gallery by "
            f"{model_named(gallery.model)}; "
            "embed the gallery again with `reid embed`, or give the model that made it"
        )
    only = only or Filter()
    if only.other_cameras and not (_any_camera(query) and _any_camera(gallery)):
        raise DataError(
            "no camera is known of the query's or of the gallery's crops, so its own camera cannot be left out; "
            "give a data set whose names say the camera, or a CSV with the columns path,camera"
        )
    rows = np.flatnonzero(only.rows(gallery))
    chosen = gallery if len(rows) == len(gallery) else gallery[rows]
    both = (*query.crops, *chosen.crops)
    paths = codes([os.path.realpath(c.path) for c in both])
    cameras = codes([c.camera for c in both])
    q = len(query)

    def allowed(block: slice) -> NDArray[np.bool_]:
        mask: NDArray[np.bool_] = paths[:q][block][:, None] != paths[q:]
        if only.other_cameras:
            mask &= (cameras[:q][block][:, None] != cameras[q:]) | (cameras[q:] < 0)
        return mask

    found = top_k(query.vectors, chosen.vectors, k, allowed)
    ids = np.where(found.ids >= 0, rows[found.ids] if len(rows) else -1, -1)
    return Ranking(ids, found.distances)


def _any_camera(embeddings: Embeddings) -> bool:
    return any(crop.camera is not None for crop in embeddings.crops)


def is_embedded(source: str | Path) -> bool:
    """Whether a source holds embeddings already: the address of a gallery, or a file of embeddings."""
    return is_address(source) or (Path(source).is_file() and files.is_embeddings(source))


def gather(
    source: str | Path | Iterable[str | Path],
    embedder: Callable[[], Embedder],
    on_skip: Callable[[Skipped], None] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Embeddings:
    """Embeddings of whatever a user hands in: read from a file of embeddings, computed from anything else.

    Args:
        source: an image, several, a folder, a list file, a CSV, a file of embeddings, or the address of a gallery.
        embedder: called when something must be computed.
        on_skip: called for each picture that cannot be read; without it the first one raises.
        progress: called with the number of crops done since the last call.

    Raises:
        ModelError: several sources were embedded by different models.
    """
    if not isinstance(source, str | Path):
        several = list(source)
        if not any(map(is_embedded, several)):
            return embedder()(data.read(several), progress, on_skip)
        parts = [gather(one, embedder, on_skip, progress) for one in several]
        if len(models := {part.model for part in parts}) > 1:
            named = ", ".join(map(model_named, sorted(models)))
            raise ModelError(
                f"what was given was embedded by different models ({named}); embed all of it with one and the same "
                "--model"
            )
        crops = tuple(crop for part in parts for crop in part.crops)
        return Embeddings(np.concatenate([part.vectors for part in parts]), crops, parts[0].model)
    if not is_embedded(source):
        return embedder()(data.read(source), progress, on_skip)
    if not is_address(source):
        return files.load(source)
    with Gallery.open(source) as gallery:
        return gallery.embeddings()
