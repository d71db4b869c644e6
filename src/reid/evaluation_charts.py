"""The charts and tables of an evaluation, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid import charts
from reid.breakdown import CameraPairs, Spread
from reid.charts import Axis, Bars, Figure, Line, Mark, decades, linear, percent
from reid.evaluation import PROTOCOLS, Outcomes
from reid.metrics import Rows
from reid.pages import text
from reid.roc import Verification
from reid.types import Crop, Report
from reid.wording import many

Floats = NDArray[np.float64]

_RATES = ("distance up to", "false matches", "true matches", "missed matches")


class Roc(NamedTuple):
    """How well a threshold on the distance tells one person from two.

    Attributes:
        fpr, tpr: (T,) false- and true-positive rate, both ascending.
        thresholds: (T,) the distance that leads to each, ascending.
        eer, eer_threshold: the equal error rate, and the distance there.
        at: rows of (false-positive rate asked for, true-positive rate, threshold).
        about: how many pairs were counted, and how.
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats
    eer: float | None = None
    eer_threshold: float | None = None
    at: Sequence[tuple[float, float, float]] = ()
    about: str = ""

    @classmethod
    def of(cls, found: Verification) -> Roc:
        """What `reid.roc` measured; rates that so few pairs cannot show are left out."""
        points = [(p.asked, p.tpr, p.threshold) for p in found.at if p.fpr]
        about = f"Pairs of one person: {found.positives:,}, of two: {found.negatives:,}; each person weighs the same."
        return cls(found.fpr, found.tpr, found.thresholds, found.eer, found.eer_threshold, points, about)


def ranking(report: Report, outcomes: Outcomes, query: Sequence[Crop]) -> str:
    return f'<div class="charts">{_cmc(report, outcomes)}{_precisions(outcomes)}{_evenness(outcomes, query)}</div>'


def _cmc(report: Report, outcomes: Outcomes) -> str:
    share = outcomes.within.mean(axis=0)[: max(2, report.gallery)]
    ranks = np.arange(1.0, len(share) + 1)
    marks = [
        Mark(rank, value, f"{100 * value:.1f}", *report.intervals.get(f"rank-{rank}", (None, None)))
        for rank, value in ((r, report.metrics.get(f"rank-{r}")) for r in range(1, len(ranks) + 1))
        if value is not None
    ]
    lowest = min([float(share[0]), *(mark.low for mark in marks if mark.low is not None)])
    floor = max(0.0, np.floor(10 * lowest - 0.1) / 10)
    ticks = [r for r in (1, 2, 5, 10, 20, 50) if r <= len(ranks)]
    x = Axis("rank", 1, float(ranks[-1]), ticks, charts.tick, log=True)
    says = [f"among the first {r:.0f}: {percent(s)}" for r, s in zip(ranks, share, strict=True)]
    drawn = charts.line_chart(
        [Line(ranks, share, says=says, marks=marks)],
        x,
        linear("queries with a right answer up to this rank", floor, 1),
        f"CMC curve, from {percent(share[0])} at rank 1 to {percent(share[-1])} at rank {len(ranks)}",
    )
    rows = [[str(r), percent(s, 2)] for r, s in enumerate(share, 1)]
    drawn_crops = ", one gallery crop a person" if _single_shot(report) else ""
    ranges = "; upright lines: 95 % intervals" if report.intervals else ""
    about = f"How often a right answer is among the first answers{drawn_crops}{ranges}."
    return Figure("Cumulative matches (CMC)", about, drawn, ["rank", "queries"], rows).html()


def _single_shot(report: Report) -> bool:
    return report.protocol in PROTOCOLS and PROTOCOLS[report.protocol].single_shot


def _precisions(outcomes: Outcomes) -> str:
    edges = np.linspace(0, 1, 21)
    counts = np.histogram(outcomes.plain, edges)[0]
    names = [f"{100 * a:.0f} – {100 * b:.0f} %" for a, b in pairwise(edges)]
    says = [f"AP {name}: {many(count, 'query', 'queries')}" for name, count in zip(names, counts, strict=True)]
    mean = float(outcomes.plain.mean())
    top = float(counts.max())
    drawn = charts.histogram(
        edges,
        [Bars("queries", counts, says=says)],
        linear("average precision of a query", 0, 1),
        linear("queries", 0, 1.12 * max(5, top), charts.tick),
        f"Histogram of average precision over {many(len(outcomes.plain), 'query', 'queries')}, mean {percent(mean)}",
        (mean, f"mAP {100 * mean:.1f}"),
    )
    rows = [[name, f"{count:,}"] for name, count in zip(names, counts, strict=True)]
    perfect, lost = np.count_nonzero(outcomes.plain == 1), np.count_nonzero(outcomes.plain < 0.1)
    about = f"Ranked without a mistake: {perfect:,}. Average precision below 10 %: {lost:,}."
    return Figure("Average precision", about, drawn, ["average precision", "queries"], rows).html()


def _evenness(outcomes: Outcomes, query: Sequence[Crop]) -> str:
    people = by_person(outcomes)
    if len(people.rows) < 10:
        return ""
    order = np.argsort(people.mean, kind="stable")
    share, mean = (np.arange(len(order)) + 1) / len(order), people.mean[order]
    names = [query[outcomes.counted[people.rows[p][0]]].pid or "" for p in order]
    tenth = round(len(order) / 10) - 1
    about = f"A tenth of the {len(order):,} people has a mean average precision of {percent(mean[tenth])} or less."
    drawn = charts.line_chart(
        [
            Line(
                share,
                mean,
                says=[f"person {name}: {percent(m)}" for name, m in zip(names, mean, strict=True)],
                marks=[Mark(float(share[tenth]), float(mean[tenth]), f"{100 * mean[tenth]:.1f}")],
            )
        ],
        linear("people, from the one found worst to the one found best", 0, 1),
        linear("mean average precision of a person’s queries", 0, 1),
        f"Mean average precision by person, from {percent(mean[0])} to {percent(mean[-1])}",
    )
    rows = [[name, percent(m), f"{len(people.rows[p]):,}"] for name, m, p in zip(names, mean, order, strict=True)]
    return Figure("Evenness", about, drawn, ["person", "mean AP", "queries"], rows).html()


class People(NamedTuple):
    """By person: which outcomes are theirs, the lowest average precision first, and the mean of that."""

    rows: list[Rows]
    mean: Floats


def by_person(outcomes: Outcomes) -> People:
    order = np.lexsort((outcomes.plain, outcomes.people))
    starts = np.flatnonzero(np.diff(outcomes.people[order], prepend=-1))
    rows = np.split(order, starts[1:])
    return People(rows, np.array([outcomes.plain[r].mean() for r in rows]))


def verification(roc: Roc | None, spread: Spread | None) -> str:
    """Histograms of distances, ROC, DET and what thresholds cost."""
    parts = [] if spread is None else [distances(spread, roc)]
    if roc is not None:
        curves = [("", roc)]
        parts += [roc_curves(curves), *([] if (det := det_curves(curves)) is None else [det])]
    about = f'<p class="note">{text(roc.about)}</p>\n' if roc and roc.about else ""
    drawn = f'<div class="charts">{"".join(part.html() for part in parts)}</div>' if parts else ""
    return about + drawn + (_thresholds(roc) if roc else "")


def distances(spread: Spread, roc: Roc | None, at: tuple[float, str] | None = None) -> Figure:
    """Histograms of the distances of pairs that show one person and of pairs that show two.

    Args:
        at: a threshold and what it does, as a sentence; without it, where both errors are equally frequent.
    """
    edges = np.asarray(spread.edges, dtype=np.float64)
    shares = [counts / max(1, int(counts.sum())) for counts in (spread.same, spread.different)]
    names = [f"{a:.3g} – {b:.3g}" for a, b in pairwise(edges)]
    both = [
        Bars(
            label,
            share,
            colour,
            [f"{label}: {percent(s, 2)} of pairs at {name}" for s, name in zip(share, names, strict=True)],
        )
        for label, share, colour in zip(("one person", "two people"), shares, ("--same", "--different"), strict=True)
    ]
    if at is None and roc and roc.eer_threshold is not None:
        at = roc.eer_threshold, f"At {roc.eer_threshold:.3g} both errors are equally frequent."
    drawn = charts.histogram(
        edges,
        both,
        linear("distance (lower is closer)", edges[0], edges[-1], charts.tick),
        linear("share of pairs", 0, 1.08 * max(float(s.max()) for s in shares)),
        "Histograms of the distances of pairs that show one person and of pairs that show two",
        (at[0], f"{at[0]:.3g}") if at else None,
    )
    rows = [[n, percent(a, 2), percent(b, 2)] for n, a, b in zip(names, *shares, strict=True)]
    about = "The less the two overlap, the better a threshold tells them apart."
    return Figure(
        "Distances", f"{about} {at[1]}" if at else about, drawn, ["distance", "one person", "two people"], rows
    )


def roc_curves(curves: Sequence[tuple[str, Roc]]) -> Figure:
    """ROC curves by name, each in a colour of its own; a single one has its points named."""
    low = min(_decade(roc.fpr) for _, roc in curves)
    lines = []
    for i, (_, roc) in enumerate(curves):
        says = [] if i else _says(curves, roc.fpr, "{} false matches", "{} true ones")
        named = [f"{100 * tpr:.1f}" if len(curves) == 1 else "" for _, tpr, _ in roc.at]
        marks = [Mark(asked, tpr, n) for (asked, tpr, _), n in zip(roc.at, named, strict=True) if asked >= low]
        lines.append(Line(roc.fpr, roc.tpr, charts.colour(i), says, marks))
    floor = np.floor(10 * min(float(roc.tpr[roc.fpr >= low].min()) for _, roc in curves) - 0.5) / 10
    drawn = charts.line_chart(
        lines,
        decades("false matches among pairs of two people", low, 1),
        linear("true matches among pairs of one person", max(0.0, floor), 1),
        "ROC curve" if len(curves) == 1 else "ROC curves",
    )
    return _with_rates(curves, "ROC", "Upper left is better.", drawn)


def det_curves(curves: Sequence[tuple[str, Roc]]) -> Figure | None:
    """DET curves by name, as above; None where all pairs of all curves are told apart."""
    lines, ends = list[Line](), list[tuple[float, float]]()
    for i, (_, roc) in enumerate(curves):
        missed = 1 - roc.tpr
        kept = (roc.fpr > 0) & (missed > 0)
        if not kept.any():
            continue  # no threshold makes both errors
        says = [] if lines else _says(curves, roc.fpr[kept], "{} false", "{} missed", missed=True)
        named = f"equal error rate {percent(roc.eer)}" if len(curves) == 1 and roc.eer is not None else ""
        marks = [] if roc.eer is None else [Mark(roc.eer, roc.eer, named)]
        lines.append(Line(roc.fpr[kept], missed[kept], charts.colour(i), says, marks))
        ends.append((_decade(roc.fpr), _decade(missed)))
    if not lines:
        return None
    x, y = (
        decades(label, min(low), 1)
        for label, low in zip(("false matches", "missed matches"), zip(*ends, strict=True), strict=True)
    )
    drawn = charts.line_chart(lines, x, y, "DET curve" if len(curves) == 1 else "DET curves", diagonal=True)
    about = "Lower left is better; on the dashed line both errors are equally frequent."
    return _with_rates(curves, "Detection error trade-off (DET)", about, drawn)


def _says(curves: Sequence[tuple[str, Roc]], rates: Floats, first: str, then: str, missed: bool = False) -> list[str]:
    """For each false-positive rate, what each curve reaches there."""
    reached = [roc.tpr[np.searchsorted(roc.fpr, rates, side="right") - 1] for _, roc in curves]
    said = []
    for place, rate in enumerate(rates):
        each = [f"{name}: " * bool(name) + then for name, _ in curves]
        values = [_rate(1 - tpr[place] if missed else tpr[place]) for tpr in reached]
        lines = [line.replace("{}", value) for line, value in zip(each, values, strict=True)]
        said.append(
            f"{first.format(_rate(rate))}: {lines[0]}"
            if len(lines) == 1
            else "\n".join([first.format(_rate(rate)), *lines])
        )
    return said


def _decade(rates: Floats) -> float:
    """The power of ten at or below the smallest rate above 0, at least a millionth."""
    smallest = float(rates[rates > 0].min(initial=0.1))
    return float(min(0.1, max(1e-6, 10.0 ** np.floor(np.log10(smallest) + 1e-9))))


def _rate(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _with_rates(curves: Sequence[tuple[str, Roc]], heading: str, about: str, drawn: str) -> Figure:
    """A figure with about fifty points of each curve, evenly spread over those given."""
    rows = []
    for name, roc in curves:
        chosen = np.unique(np.linspace(0, len(roc.fpr) - 1, 50).round().astype(int))
        first = [name] if len(curves) > 1 else []
        rows += [
            [*first, f"{roc.thresholds[i]:.4g}", *map(_rate, (roc.fpr[i], roc.tpr[i], 1 - roc.tpr[i]))] for i in chosen
        ]
    return Figure(heading, about, drawn, ["of", *_RATES] if len(curves) > 1 else _RATES, rows)


def _thresholds(roc: Roc) -> str:
    """What a threshold costs."""
    if not roc.at:
        return ""
    lines = {
        "true matches": [percent(tpr) for _, tpr, _ in roc.at],
        "accept a distance up to": [f"{threshold:.4g}" for *_, threshold in roc.at],
    }
    head = "".join(f'<th scope="col">{_rate(asked)}</th>' for asked, *_ in roc.at)
    body = "\n".join(
        f'<tr><th scope="row">{name}</th>{"".join(f"<td>{cell}</td>" for cell in cells)}</tr>'
        for name, cells in lines.items()
    )
    return f"""<div class="scroll" tabindex="0"><table class="plain"><caption>Where to put the threshold</caption>
<thead><tr><th scope="col">false matches allowed</th>{head}</tr></thead>
<tbody>{body}</tbody></table></div>"""


def camera_tables(pairs: CameraPairs | None, outcomes: Outcomes, query: Sequence[Crop]) -> str:
    if pairs is None or not pairs.queries.any():
        return ""
    camera = np.array([query[i].camera for i in outcomes.counted])
    own = [camera == name for name in pairs.query_cameras]
    counts = np.column_stack([pairs.queries, [np.count_nonzero(rows) for rows in own]])
    notes = [[f"{n:,}" if n else "no query has a match there" for n in row] for row in counts]
    tables = []
    for name, values, each in (
        ("mAP, %", pairs.mean_ap, outcomes.plain),
        ("rank-1, %", pairs.rank1, outcomes.within[:, 0]),
    ):
        total = [each[rows].mean() if rows.any() else np.nan for rows in own]
        columns, shares = [*pairs.gallery_cameras, "all"], np.column_stack([values, total])
        drawn = charts.heat_map(pairs.query_cameras, columns, shares, notes, r"from \ to", name)
        tables.append(f'<div class="scroll" tabindex="0">{drawn}</div>')
    cells = np.argwhere(pairs.queries)
    order = cells[np.argsort([pairs.mean_ap[r, c] for r, c in cells], kind="stable")]
    extremes = [
        f"{word}: <b>{text(pairs.query_cameras[r])} → {text(pairs.gallery_cameras[c])}</b>, "
        f"mAP {percent(pairs.mean_ap[r, c])} ({pairs.queries[r, c]:,})."
        for word, (r, c) in zip(("Hardest", "Easiest"), (order[0], order[-1]), strict=True)
    ]
    return f"""<p class="note">Each row is one camera’s queries; each column a gallery of one camera alone, the last \
one the whole gallery, with more to confuse and more to find. Below each figure: how many queries it stands for. \
{" ".join(extremes) if len(order) > 1 else ""}</p>
<div class="heats" style="--columns: {len(pairs.gallery_cameras) + 2}">{"".join(tables)}</div>"""
