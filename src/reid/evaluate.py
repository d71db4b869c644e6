"""Evaluation by protocol: which gallery rows count for which query, then the metrics.

To add a protocol, write its rule here and name it in PROTOCOLS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from reid import metrics
from reid.distance import Metric, blocks
from reid.errors import DataError, ModelError
from reid.types import Crop, Embeddings, Report

Codes = NDArray[np.int64]


def _market(same_person: NDArray[np.bool_], same_camera: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Market-1501 (Zheng et al. 2015): rows of the query's person seen by the query's camera are junk."""
    return ~(same_person & same_camera)


def _cross_camera(same_person: NDArray[np.bool_], same_camera: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Only rows of other cameras are searched, whoever they show."""
    return ~same_camera


PROTOCOLS: dict[str, Callable[[NDArray[np.bool_], NDArray[np.bool_]], NDArray[np.bool_]]] = {
    "market1501": _market,
    "cross-camera": _cross_camera,
}


def evaluate(
    query: Embeddings,
    gallery: Embeddings,
    protocol: str = "market1501",
    metric: Metric = "euclidean",
    ranks: tuple[int, ...] = (1, 5, 10),
) -> Report:
    """Rank the gallery for each query and measure how good the rankings are.

    Rows with role "junk" are removed, "distractor" rows stay and are always wrong. A query without a valid match is
    skipped: it enters neither mAP nor CMC. Unknown cameras are all different from each other. A crop that is
    in both sets (same path) is not searched for itself.

    Raises:
        ModelError: the two sets come from different models.
        DataError: the protocol is unknown, or no query has a valid match.
    """
    if query.model != gallery.model:
        raise ModelError("queries and gallery were embedded by different models; embed both with the same one")
    if protocol not in PROTOCOLS:
        raise DataError(f"protocol is {protocol!r}; it can be {', '.join(PROTOCOLS)}")
    rule = PROTOCOLS[protocol]
    pids = codes([c.pid if c.role == "person" else None for c in (*query.crops, *gallery.crops)])
    cameras = codes([c.camera for c in (*query.crops, *gallery.crops)])
    paths = codes([c.path for c in (*query.crops, *gallery.crops)])
    here = len(query)
    searched = np.array([c.role != "junk" for c in gallery.crops], dtype=bool)
    found = []
    for rows, block in blocks(query.vectors, gallery.vectors, metric):
        for i, distances in enumerate(block, rows.start):
            same_person = (pids[here:] == pids[i]) & (pids[i] >= 0)
            same_camera = (cameras[here:] == cameras[i]) & (cameras[i] >= 0)
            counted = searched & rule(same_person, same_camera) & (paths[here:] != paths[i])
            found.append(metrics.hits(distances, same_person, counted))
    valid = [h for h in found if len(h)]
    if not valid:
        raise DataError(
            f"none of the {len(query)} queries has a match in the gallery that the {protocol} protocol counts; "
            "`reid show` explains which people can be evaluated"
        )
    cmc = metrics.cmc(np.array([h[0] for h in valid]), ranks)
    values = {f"rank-{r}": v for r, v in cmc.items()}
    values["mAP"] = float(np.mean([metrics.average_precision(h) for h in valid]))
    values["mAP-trapezoid"] = float(np.mean([metrics.average_precision_trapezoid(h) for h in valid]))
    values["mINP"] = float(np.mean([metrics.inverse_negative_penalty(h) for h in valid]))
    return Report(values, protocol, queries=len(valid), skipped=len(found) - len(valid), gallery=int(searched.sum()))


def codes(values: Sequence[str | None]) -> Codes:
    """Names as integers, the same name the same integer; None is −1."""
    known: dict[str, int] = {}
    return np.array([-1 if v is None else known.setdefault(v, len(known)) for v in values], dtype=np.int64)


def hold_out(crops: Sequence[Crop], people: int) -> tuple[list[Crop], list[Crop], list[Crop]]:
    """Split labelled crops by person, for choosing a model: (training, query, gallery).

    The last `people` people in sorted order are held out. Of each, the first crop by path in each camera is a query and
    all others are the gallery.
    """
    named = [c for c in crops if c.pid is not None and c.role == "person"]
    everyone = sorted({c.pid for c in named if c.pid is not None})
    held = set(everyone[-people:] if people else ())
    train = [c for c in named if c.pid not in held]
    query: list[Crop] = []
    gallery: list[Crop] = []
    seen = set()
    for crop in sorted((c for c in named if c.pid in held), key=lambda c: c.path):
        is_first = (crop.pid, crop.camera) not in seen
        seen.add((crop.pid, crop.camera))
        (query if is_first else gallery).append(crop)
    return train, query, gallery
