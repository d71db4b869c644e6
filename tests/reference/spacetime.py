"""Space-time priors as written down: one person, one pair of crops, one bin at a time."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from reid.types import Crop


def paper_shares(crops: list[Crop], bins: int, rate: float) -> dict[tuple[str, str], list[float]]:
    """st-ReID's smoothed distribution, [later camera, earlier camera], by its authors' statements in their order."""
    frames: dict[tuple[str, str], list[int]] = defaultdict(list)
    for crop in crops:
        assert crop.pid is not None
        assert crop.camera is not None
        assert crop.time is not None
        frames[crop.pid, crop.camera].append(round(crop.time * rate))
    mean = {key: sum(values) / (len(values) + 1e-7) for key, values in frames.items()}
    cameras = sorted({camera for _, camera in frames})
    counts = {(a, b): [0.0] * bins for a in cameras for b in cameras}
    for person in sorted({person for person, _ in frames}):
        for i, a in enumerate(cameras):
            for b in cameras[i + 1 :]:
                if (person, a) not in mean or (person, b) not in mean:
                    continue
                first, second = mean[person, a], mean[person, b]
                at = int(abs(first - second) / 100)
                if at < bins:
                    counts[(a, b) if first > second else (b, a)][at] += 1
    return {pair: normalised(smoothed(normalised(row))) for pair, row in counts.items()}


def smoothed(row: list[float], sigma: int = 50) -> list[float]:
    out = [0.0] * len(row)
    for x in range(len(row)):
        for u in range(len(row)):
            if abs(x - u) <= 3 * sigma and row[u]:
                out[x] += row[u] * math.exp(-((x - u) ** 2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))
    return out


def normalised(row: list[float]) -> list[float]:
    total = sum(row) + 1e-7
    return [value / total for value in row]


def paper_distance(
    shares: dict[tuple[str, str], list[float]], query: Crop, row: Crop, cosine: float, rate: float
) -> float:
    share = 0.0
    if query.time is not None and row.time is not None and query.camera is not None and row.camera is not None:
        apart = round(query.time * rate) - round(row.time * rate)
        pair = (query.camera, row.camera) if apart > 0 else (row.camera, query.camera)
        at = int(abs(apart) / 100)
        if pair in shares and at < len(shares[pair]):
            share = shares[pair][at]
    return 1 - 1 / (1 + math.exp(-5 * cosine)) * 1 / (1 + 2 * math.exp(-5 * share))


def place(seconds: float) -> int:
    """Steps of 0.025 in ±ln(1 + |t|/30), to the nearest."""
    return int(math.copysign(math.floor(math.log(1 + abs(seconds) / 30) / 0.025 + 0.5), seconds))


def log_ratio(crops: list[Crop], a: str, b: str, seconds: float, width: float) -> float:
    """ln((n + 1) / (N·s + 1)) for one time difference from camera a to camera b."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for crop in crops:
        times[str(crop.pid), str(crop.camera)].append(float(crop.time or 0))
    people = sorted({person for person, _ in times})

    def near(first: list[float], second: list[float]) -> float:
        """The mean over all pairs of the window's height."""
        steps = [(place(t - s) - place(seconds)) * 0.025 for s in first for t in second]
        return float(np.mean([math.exp(-((step / width) ** 2) / 2) for step in steps]))

    both = [p for p in people if (p, a) in times and (p, b) in times]
    observed = sum(near(times[p, a], times[p, b]) for p in both)
    strangers = [
        near(times[p, a], times[q, b]) for p in people for q in people if p != q and (p, a) in times and (q, b) in times
    ]
    return math.log((observed + 1) / (len(both) * float(np.mean(strangers)) + 1))
