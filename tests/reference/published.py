"""Seeded cases that torchreid's and triplet-reid's own evaluators were run on; what they said is in published.json.

The people are numbered as in Market-1501: −1 is junk, 0 a distractor. Both toolkits were given these arrays: torchreid
`eval_market1501(distances, query_pids, gallery_pids, query_cameras, gallery_cameras, 50)` with junk rows dropped, as
its data sets do, and `eval_cuhk03` with junk and distractors dropped, 400 times; triplet-reid its loop over queries
with its market1501 excluder's mask. triplet-reid divides CMC by all queries, also those without a match.
"""

from __future__ import annotations

import numpy as np


def case(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(distances, query people, gallery people, query cameras, gallery cameras)."""
    rng = np.random.default_rng(seed)
    queries, rows, people = 60, 400, 25
    query_pids = rng.integers(1, people + 4, queries)  # a few of them are not in the gallery
    gallery_pids = rng.integers(-1, people + 1, rows)
    query_cameras, gallery_cameras = rng.integers(1, 5, queries), rng.integers(1, 5, rows)
    same = query_pids[:, None] == gallery_pids[None]
    distances = (rng.random((queries, rows)) + 0.08 * ~same).astype(np.float32)
    return distances, query_pids, gallery_pids, query_cameras, gallery_cameras
