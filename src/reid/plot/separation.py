"""How well distances tell one person from two: histograms, ROC, DET, for one model or several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from reid import breakdown, charts, evaluation, evaluation_charts, roc
from reid.charts import percent
from reid.errors import DataError
from reid.evaluation_charts import Roc
from reid.pages import text
from reid.plot.sheet import Sheet, grid
from reid.roc import Point, Verification
from reid.types import Embeddings

RATES = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True, slots=True, eq=False)
class Separation:
    """Pairs of one model.

    Attributes:
        name: what to call it in a picture.
        found: error rates at each threshold.
        spread: how many pairs lie at each distance.
        at: the threshold for the false-positive rate that was asked for, if one was.
    """

    name: str
    found: Verification
    spread: breakdown.Spread
    at: Point | None = None


def separation(
    name: str, query: Embeddings, gallery: Embeddings, protocol: str = "market1501", at: float | None = None
) -> Separation:
    """Measure the pairs of queries and gallery rows that a protocol counts.

    Args:
        name: what to call it.
        query, gallery: embedded by one model.
        protocol: a name from PROTOCOLS.
        at: a false-positive rate whose threshold is wanted.

    Raises:
        DataError: no pair of one person, or of two, counts; or so few of two that the rate cannot be shown.
    """
    found = evaluation.distances(query, gallery)
    crops = query.crops, gallery.crops
    rates = RATES if at is None else (*RATES, at)
    measured = roc.verification(found(), *crops, protocol, rates=rates)
    point = None if at is None else measured.at[-1]
    if point and not point.fpr:
        raise DataError(
            f"{name} has {measured.negatives:,} pairs of two people, too few to show a false-positive rate of {at:g}; "
            "ask for a higher one, or give more people"
        )
    return Separation(name, measured, breakdown.spread(found(), *crops, protocol), point)


def scores(parts: Sequence[Separation]) -> Sheet:
    """Histograms of the distances of pairs of one person and of two, with the threshold between them."""
    figures = []
    for part in parts:
        at = None
        if part.at:
            at = part.at.threshold, _cost(part.at)
        figure = evaluation_charts.distances(part.spread, Roc.of(part.found), at)
        figures.append(figure._replace(heading=part.name) if len(parts) > 1 else figure)
    return _sheet("How far apart are two pictures?", parts, figures, lines=False)


def receiver(parts: Sequence[Separation]) -> Sheet:
    """ROC curves."""
    return _sheet("Matches at what mistakes?", parts, [evaluation_charts.roc_curves(_curves(parts))])


def tradeoff(parts: Sequence[Separation]) -> Sheet:
    """DET curves.

    Raises:
        DataError: a threshold tells all pairs apart, so that there are no errors to draw.
    """
    figure = evaluation_charts.det_curves(_curves(parts))
    if figure is None:
        raise DataError("a threshold tells every pair apart, so there are no errors to draw; give more people")
    return _sheet("Which mistakes for which?", parts, [figure])


def _curves(parts: Sequence[Separation]) -> list[tuple[str, Roc]]:
    if len(parts) > charts.COLOURS:
        raise DataError(f"{len(parts)} curves were asked for; at most {charts.COLOURS} can be told apart")
    return [(part.name if len(parts) > 1 else "", Roc.of(part.found)) for part in parts]


def _cost(point: Point) -> str:
    """What a threshold does, as a sentence."""
    return (
        f"A distance up to {point.threshold:.4g} accepts {percent(point.tpr)} of pairs of one person and "
        f"{100 * point.fpr:.3g} % of pairs of two."
    )


def _sheet(title: str, parts: Sequence[Separation], figures: Sequence[charts.Figure], lines: bool = True) -> Sheet:
    one, several = parts[0].found, len(parts) > 1
    if several:
        summary = f"{len(parts)} models, protocol {one.protocol}; each person weighs the same."
        return Sheet(
            title, summary, [("", "", figures)], [p.name for p in parts] if lines else (), (), "", _table(parts)
        )
    summary = f"Equal error rate {percent(one.eer, 2)}, at a distance of {one.eer_threshold:.3g}."
    if parts[0].at:
        summary = _cost(parts[0].at)
    facts = [
        ("Of", parts[0].name),
        ("Protocol", one.protocol),
        ("Pairs of one person", f"{one.positives:,}"),
        ("Pairs of two", f"{one.negatives:,}"),
    ]
    return Sheet(title, summary, [("", "", figures)], (), facts, "", _table(parts))


def _table(parts: Sequence[Separation]) -> str:
    """The figures of each model, one a row."""
    rates = [rate for rate in RATES if any(p.asked == rate and p.fpr for part in parts for p in part.found.at)]
    head = [
        "",
        "equal error rate",
        *(f"true matches at {100 * rate:.6g} % false" for rate in rates),
        "pairs of one",
        "of two",
    ]
    rows = []
    for part in parts:
        reached = {p.asked: p for p in part.found.at}
        shown = [percent(reached[r].tpr) if reached[r].fpr else "–" for r in rates]
        pairs = [f"{part.found.positives:,}", f"{part.found.negatives:,}"]
        rows.append((text(part.name), [percent(part.found.eer, 2), *shown, *pairs]))
    return grid(head, rows)
