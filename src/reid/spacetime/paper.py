"""st-ReID's prior (Wang, Lai, Huang, Xie; AAAI 2019), as its authors' code computes it, to compare with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from reid import distance
from reid.errors import DataError, ModelError
from reid.evaluation import codes
from reid.spacetime.sightings import Floats, tells, where_when
from reid.types import Crop, Embeddings, Vectors

INTERVAL, SMOOTH, ALPHA, TINY = 100.0, 50, 5.0, 1e-7


@dataclass(frozen=True, slots=True, eq=False)
class PaperPrior:
    """Histograms of how many frames lie between a person's mean frames in two cameras, smoothed; no more than that.

    For two cameras and the order in which a person came by, p is the share of training people in a bin of 100 frames,
    smoothed with a Gaussian of 50 bins that is cut at 3σ, and normalised. A pair of crops scores

        1 / (1 + e^(−5·cos)) · 1 / (1 + 2·e^(−5·p))

    and its distance is 1 − score, in (0, 1).

    What is wrong with it, kept as it is: p cannot exceed 0.016 (0.012 on Market-1501), so the second factor spans no
    more than 0.333 to 0.351, and changes with the width of the bins; a pair of cameras that share nobody counts as
    impossible, not as unknown, and so does a pair within one camera, which the Market-1501 protocol rewards; p says
    nothing of how often strangers are as far apart; there is no weight to fit. The authors' code fails on a difference
    beyond the last bin: here it is left out when learning and has p = 0 when scoring, as do crops without camera or
    time. Their Duke frames are each camera's own; here they are on one clock.

    Attributes:
        cameras: C names.
        shares: (C, C, bins) p for the later and the earlier camera and |Δframe| // 100.
        rate: frames per second.
    """

    cameras: tuple[str, ...]
    shares: Floats
    rate: float

    @classmethod
    def fit(cls, crops: Sequence[Crop], bins: int = 5000, rate: float = 25.0) -> PaperPrior:
        """Learn from training people: 5,000 bins at 25 frames a second for Market-1501, 3,000 at 59.94 for Duke."""
        used = [c for c in crops if tells(c)]
        if not used or bins < 1 or not rate > 0:
            raise DataError(
                f"{len(used)} of {len(crops)} crops name person, camera and time, in {bins} bins at {rate} frames a "
                "second; give at least one of each"
            )
        cameras = tuple(sorted({str(c.camera) for c in used}))
        camera, times = where_when(used, cameras)
        person = codes([c.pid for c in used])
        people, count = int(person.max()) + 1, len(cameras)
        cell = person * count + camera
        seen = np.bincount(cell, minlength=people * count).reshape(people, count)
        total = np.bincount(cell, np.rint(times * rate), people * count).reshape(people, count)
        mean = total / (seen + TINY)
        shares = np.zeros((count, count, bins))
        for j in range(count):
            for k in range(j + 1, count):
                both = (seen[:, j] > 0) & (seen[:, k] > 0)
                apart = mean[both, j] - mean[both, k]
                at = (np.abs(apart) / INTERVAL).astype(np.int64)
                shares[j, k] = np.bincount(at[(apart > 0) & (at < bins)], minlength=bins)
                shares[k, j] = np.bincount(at[(apart <= 0) & (at < bins)], minlength=bins)
        return cls(cameras, _smooth(shares), rate)

    def share(self, query: Sequence[Crop], gallery: Sequence[Crop]) -> Floats:
        """(Q, G) p of each pair."""
        bins = self.shares.shape[2]
        table = np.pad(self.shares, ((0, 1), (0, 1), (0, 1)))  # unknown cameras and the bin past the last have 0
        (a, s), (b, t) = where_when(query, self.cameras), where_when(gallery, self.cameras)
        out = np.empty((len(query), len(gallery)))
        for i, (camera, frame) in enumerate(zip(a, np.rint(s * self.rate), strict=True)):
            apart = frame - np.rint(t * self.rate)
            at = np.minimum(np.abs(apart) / INTERVAL, bins).astype(np.int64)
            out[i] = np.where(apart > 0, table[camera, b, at], table[b, camera, at])
        return out

    def blocks(self, query: Embeddings, gallery: Embeddings) -> Iterator[tuple[slice, Vectors]]:
        """As `distance.blocks`: 1 − score."""
        if query.model != gallery.model:
            raise ModelError("queries and gallery were embedded by different models; embed both with the same one")
        for rows, block in distance.blocks(query.vectors, gallery.vectors, "cosine"):
            cosine = 1 - block.astype(np.float64)
            share = self.share(query.crops[rows], gallery.crops)
            score = 1 / (1 + np.exp(-ALPHA * cosine)) / (1 + 2 * np.exp(-ALPHA * share))
            yield rows, (1 - score).astype(np.float32)


def _smooth(counts: Floats) -> Floats:
    """Normalise, smooth and normalise again along the last axis."""
    offsets = np.arange(-3 * SMOOTH, 3 * SMOOTH + 1)
    kernel = np.exp(-(offsets**2) / (2 * SMOOTH**2)) / (SMOOTH * np.sqrt(2 * np.pi))
    shares = counts / (counts.sum(axis=-1, keepdims=True) + TINY)
    reach, bins = 3 * SMOOTH, counts.shape[-1]
    smooth = np.stack([np.convolve(row, kernel)[reach : reach + bins] for row in shares.reshape(-1, bins)])
    smooth = smooth.reshape(counts.shape)
    normalised: Floats = smooth / (smooth.sum(axis=-1, keepdims=True) + TINY)
    return normalised
