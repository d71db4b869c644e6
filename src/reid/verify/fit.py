"""Fitting a Verifier: curve, corrections for two cameras, thresholds with intervals, and what quality does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from reid.errors import DataError
from reid.metrics import Rows
from reid.quality import MEASURES
from reid.roc import bootstrap
from reid.verify.curve import KINDS, Curve, Floats, falling, logistic, sigmoid
from reid.verify.measure import log_loss
from reid.verify.pairs import Pairs
from reid.verify.parts import Accepts, Correction, Doubt

if TYPE_CHECKING:
    from reid.verify.verifier import Verifier

FOLDS = 5
FEWEST = 10  # people, to leave a fifth of them out in turn
DOUBT = 0.05  # of a person, in a curve's ends; chosen on people whom a model was trained on, see docs/verify.md
PULLS = (1.0, 4.0, 16.0, 64.0)  # people's worth of doubt in a correction for two cameras
ENOUGH = 5  # people with pairs between two cameras, for a correction to be tried
TYPICAL = (0.75, 0.9, 0.97, 0.99)
SAMPLED = 200_000  # pairs of two people from which the effect of quality is learnt, at most
RATES = (0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 5e-4, 2e-4, 1e-4, 5e-5, 2e-5, 1e-5)
ROUND = 6  # digits that go into the file

Corrections = dict[tuple[str, str], Correction]
Folds = list[tuple[Pairs, Pairs]]
Losses = dict[str, float]


def fit(pairs: Pairs, cameras: bool = True) -> dict[str, Any]:
    """What a Verifier learns from pairs, by its attributes' names.

    Of isotonic, logistic and their blend the curve is taken that has the lowest log-loss on people left out: a fifth of
    them in turn, and only pairs of which both people are left out, or both are not. The pull of the corrections for two
    cameras is chosen in the same way, and none are made if all of them lose.

    Raises:
        DataError: there are no pairs of one kind, or fewer than FEWEST people.
    """
    pairs.check()
    people = len(np.unique(pairs.first[pairs.same]))
    if people < FEWEST:
        raise DataError(
            f"people with two pictures that count: {people}; a calibration is checked on people left out and needs "
            f"at least {FEWEST}"
        )
    pairs = pairs[np.argsort(pairs.distances, kind="stable")]  # sorted again many times, which is quick then
    parts = _parts(pairs)
    curves = {kind: [curve_of(learnt, kind) for learnt, _ in parts] for kind in KINDS}
    losses = {kind: held_out(parts, curves[kind]) for kind in KINDS}
    kind = min(losses, key=losses.__getitem__)
    curve = curve_of(pairs, kind)
    corrections: Corrections = {}
    if cameras and pairs.cameras:
        pulled = [correct(c, learnt, PULLS) for c, (learnt, _) in zip(curves[kind], parts, strict=True)]
        tried = [held_out(parts, curves[kind], [each[i] for each in pulled]) for i in range(len(PULLS))]
        best = int(np.argmin(tried))
        if tried[best] < losses[kind]:
            losses["with cameras"] = tried[best]
            (corrections,) = correct(curve, pairs, PULLS[best : best + 1])
    return {
        "curve": curve,
        "accepts": accepts(pairs),
        "people": people,
        "same": int(pairs.same.sum()),
        "different": int((~pairs.same).sum()),
        "kind": kind,
        "losses": {name: round(loss, ROUND) for name, loss in losses.items()},
        "cameras": corrections,
    }


def curve_of(pairs: Pairs, kind: str, doubt: float = DOUBT) -> Curve:
    """The common curve. Its doubt is so large a share of what two people weigh, and of what a person does."""
    same, weights = pairs.same, pairs.weights()
    two, one = (0.5 * doubt / len(np.unique(pairs.pair[which])) for which in (~same, same))
    found = KINDS[kind](pairs.distances.astype(float), same, weights, (two, one))
    return falling(found.distances.round(ROUND), found.probabilities.round(ROUND + 2))


def folds(pairs: Pairs) -> Iterator[tuple[Pairs, Pairs]]:
    """FOLDS times: pairs among four fifths of the people, and pairs among the others; unless one kind is missing."""
    count = sum(pairs.people)
    fold = np.empty(count, dtype=np.int64)
    fold[np.random.default_rng(0).permutation(count)] = np.arange(count) % FOLDS
    for i in range(FOLDS):
        learnt, left = pairs.of(fold != i), pairs.of(fold == i)
        if all(0 < part.same.sum() < len(part) for part in (learnt, left)):
            yield learnt, left


def _parts(pairs: Pairs) -> Folds:
    """All folds.

    Raises:
        DataError: there is none, because no two people of a pair are left out together.
    """
    if parts := list(folds(pairs)):
        return parts
    raise DataError(
        f"pairs of two people: {int((~pairs.same).sum()):,}, too few to check a calibration on people left out; give "
        "more of them"
    )


def held_out(parts: Folds, curves: list[Curve], corrections: list[Corrections] | None = None) -> float:
    """The mean log-loss on people left out, in nats, of curves fitted on the others."""
    found = []
    for i, (_, left) in enumerate(parts):
        odds = curves[i].log_odds(left.distances)
        if corrections is not None:
            odds = corrected(odds, left, corrections[i])
        found.append(log_loss(sigmoid(odds), left.same, left.weights()))
    return float(np.mean(found))


def correct(curve: Curve, pairs: Pairs, pulls: Sequence[float]) -> list[Corrections]:
    """For each pull the offset and scale of each two cameras with pairs of ENOUGH people, drawn towards 0 and 1.

    The pull is in people: a Gaussian prior on offset and scale, of that precision in units of one person's log-loss.
    """
    found: list[Corrections] = [{} for _ in pulls]
    for place, names in enumerate(pairs.cameras):
        here = pairs[pairs.between == place]
        people = len(np.unique(here.first[here.same]))
        if people < ENOUGH or here.same.all():
            continue
        odds, weights = curve.log_odds(here.distances), here.weights() * people
        features = np.stack([np.ones(len(odds)), odds], axis=1)
        for each, pull in zip(found, pulls, strict=True):
            offset, scale = logistic(features, here.same, weights, pull, (0.0, 1.0)).tolist()
            each[names] = Correction(people, round(offset, ROUND), round(max(scale, 0.0), ROUND))
    return found


def corrected(odds: Floats, pairs: Pairs, corrections: Corrections) -> Floats:
    """Log-odds of pairs after the corrections."""
    rows = [corrections.get(names, Correction(0, 0.0, 1.0)) for names in pairs.cameras] + [Correction(0, 0.0, 1.0)]
    return np.array([c.offset for c in rows])[pairs.between] + np.array([c.scale for c in rows])[pairs.between] * odds


def accepts(pairs: Pairs, rates: tuple[float, ...] = RATES) -> tuple[Accepts, ...]:
    """Thresholds for false-accept rates, each two people weighing the same, with 95 % intervals.

    The threshold of a rate is the largest distance seen at which no larger share of the pairs of two people is at most
    that far apart. People are drawn with replacement, within each set, and a pair enters with the product of how often
    its two people were drawn (the vertex bootstrap of Fogliato, Patil and Perona 2024, as in `reid.roc`). The interval
    of the realised rate takes the threshold from one draw and the rate from another: it holds what both the people
    fitted on and those met later vary by. Rates below one pair of people in all pairs of people are left out.
    """
    wrong = pairs[~pairs.same]
    order = np.argsort(wrong.distances, kind="stable")
    wrong = wrong[order]
    two, place, count = np.unique(wrong.pair, return_inverse=True, return_counts=True)
    weights, ends = 1 / count[place], np.array([two // sum(pairs.people), two % sum(pairs.people)])
    rates = tuple(rate for rate in rates if rate * len(two) >= 1)
    if not rates:
        return ()
    near = int(np.searchsorted(np.cumsum(weights), 1.5 * rates[0] * len(two))) + bootstrap.NEAR  # in any draw enough
    distances, first, second, weights = wrong.distances[:near], wrong.first[:near], wrong.second[:near], weights[:near]
    last = np.append(np.flatnonzero(np.diff(distances) > 0), len(distances) - 1)  # of each equal distance

    def rising(times: Rows) -> Floats:
        """The false-accept rate at each distance, when people are drawn so many times."""
        all_in = (times[ends[0]] * times[ends[1]]).sum()
        return np.asarray(np.cumsum(weights * times[first] * times[second])[last] / max(all_in, 1))

    def places(curve: Floats) -> Rows:
        """Of the thresholds of the rates; −1 where even the nearest distance is too much."""
        found: Rows = np.searchsorted(curve, np.array(rates) * (1 + 1e-9), side="right") - 1
        return found

    steps = np.append(distances[last], max(0.0, np.nextafter(distances[0], np.float32(0)))).astype(float)
    drawn = [rising(times) for times in bootstrap.draws(*pairs.people)]
    at = np.array([places(curve) for curve in drawn])
    low, high = np.quantile(steps[at[1:]], [0.025, 0.975], axis=0)
    met = [np.append(curve, 0.0)[chosen] for curve, chosen in zip(drawn[1:], at[[*range(2, len(at)), 1]], strict=True)]
    rate_low, rate_high = np.quantile(met, [0.025, 0.975], axis=0)
    rows = np.column_stack([rates, steps[at[0]], low, high, rate_low, rate_high])
    return tuple(_row(*row) for row in rows.tolist())


def _row(rate: float, distance: float, low: float, high: float, rate_low: float, rate_high: float) -> Accepts:
    """As many digits as the file holds, the threshold rounded down."""
    distance = math.floor(distance * 10**ROUND) / 10**ROUND
    low, high = min(round(low, ROUND), distance), max(round(high, ROUND), distance)
    return Accepts(rate, distance, low, high, float(f"{rate_low:.3g}"), float(f"{rate_high:.3g}"))


def doubt(verifier: Verifier, pairs: Pairs, quality: Floats, natural: NDArray[np.bool_]) -> tuple[Doubt, Losses]:
    """How much of the evidence each measure of quality takes, and the lean, by least log-loss on pairs, some poor.

    Pairs of two natural crops weigh half of all, so that what helps the poor ones must not cost the others more. A crop
    is worse than typical where a share of the natural crops, one of TYPICAL, is better; the weights are those of least
    log-loss, none below 0. The share is chosen, and the whole is kept, only by log-loss on people left out.

    Args:
        pairs: of natural and of worsened crops.
        quality: (R, M) of all crops, by the rows that pairs name.
        natural: (R,) which crops are as they were taken.

    Returns:
        The doubt, and log-losses on people left out, by what they are of.
    """
    pairs = pairs.few(SAMPLED)
    parts = _parts(pairs)
    plain = np.mean([_losses(verifier, left, quality, natural, None) for _, left in parts], axis=0)
    best, found = (float(plain.sum()), plain), None
    for share in TYPICAL:
        typical = np.quantile(quality[natural], share, axis=0).round(ROUND)
        each = [_least(verifier, learnt, quality, natural, typical) for learnt, _ in parts]
        tried = [_losses(verifier, left, quality, natural, d) for d, (_, left) in zip(each, parts, strict=True)]
        losses = np.mean(tried, axis=0)
        if losses.sum() < best[0]:
            best, found = (float(losses.sum()), losses), typical
    if found is None:
        return Doubt(MEASURES, (0.0,) * len(MEASURES), (0.0,) * len(MEASURES)), _named(plain, plain)
    return _least(verifier, pairs, quality, natural, found), _named(plain, best[1])


def _named(without: Floats, with_it: Floats) -> Losses:
    names = ("natural crops", "natural crops, quality seen", "poor crops", "poor crops, quality seen")
    values = (without[0], with_it[0], without[1], with_it[1])
    return {name: round(float(value), ROUND) for name, value in zip(names, values, strict=True)}


def _losses(
    verifier: Verifier, pairs: Pairs, quality: Floats, natural: NDArray[np.bool_], doubt: Doubt | None
) -> tuple[float, float]:
    """Log-loss of pairs of two natural crops, and of the others."""
    both = np.asarray(natural[pairs.rows].all(axis=1))
    found = []
    for part in (pairs[both], pairs[~both]):
        odds = verifier.curve.log_odds(part.distances)
        if doubt is not None:
            odds = doubt.leaning(odds, doubt.evidence(*(quality[part.rows[:, side]] for side in (0, 1))))
        p = sigmoid(odds)
        found.append(log_loss(p, part.same, part.weights()) if len(part) else 0.0)
    return found[0], found[1]


def _least(verifier: Verifier, pairs: Pairs, quality: Floats, natural: NDArray[np.bool_], typical: Floats) -> Doubt:
    """The doubt of least log-loss, natural pairs and others weighing the same."""
    from scipy.optimize import minimize  # slow to import, and needed here alone

    both = np.asarray(natural[pairs.rows].all(axis=1))
    heavy = np.empty(len(pairs))
    heavy[both], heavy[~both] = pairs[both].weights(), pairs[~both].weights()
    odds, same = verifier.curve.log_odds(pairs.distances), pairs.same
    worse = np.maximum(quality - typical, 0)[pairs.rows].sum(axis=1)

    def cost(free: Floats) -> tuple[float, Floats]:
        *weights, lean = free
        left = np.exp(-worse @ weights)
        p = sigmoid(left * (odds + lean * (1 - left)))
        wrong = heavy * (p - same) * left / heavy.sum()
        slope = -(worse * (wrong * (odds + lean * (1 - 2 * left)))[:, None]).sum(axis=0)
        return log_loss(p, same, heavy), np.append(slope, (wrong * (1 - left)).sum())

    start = np.append(np.full(len(MEASURES), 0.1), 0.0)
    *found, lean = minimize(cost, start, jac=True, method="L-BFGS-B", bounds=[(0, 50)] * len(start)).x.round(ROUND)
    return Doubt(MEASURES, tuple(typical.tolist()), tuple(map(float, found)), float(lean))
