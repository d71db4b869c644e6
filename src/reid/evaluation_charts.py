"""The charts and tables of an evaluation, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid import charts
from reid.breakdown import CameraPairs, Spread
from reid.charts import Axis, Bars, Line, Mark, decades, linear, percent
from reid.data.findings import many
from reid.evaluation import PROTOCOLS, Outcomes
from reid.metrics import Rows
from reid.pages import text
from reid.types import Crop, Report

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
    return _chart("Cumulative matches (CMC)", about, drawn, ["rank", "queries"], rows)


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
    return _chart("Average precision", about, drawn, ["average precision", "queries"], rows)


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
    return _chart("Evenness", about, drawn, ["person", "mean AP", "queries"], rows)


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
    parts = []
    if spread is not None:
        parts.append(_distances(spread, roc))
    if roc is not None:
        parts += [_roc(roc), _det(roc)]
    about = f'<p class="note">{text(roc.about)}</p>\n' if roc and roc.about else ""
    drawn = f'<div class="charts">{"".join(parts)}</div>' if parts else ""
    return about + drawn + (_thresholds(roc) if roc else "")


def _distances(spread: Spread, roc: Roc | None) -> str:
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
    drawn = charts.histogram(
        edges,
        both,
        linear("distance (lower is closer)", edges[0], edges[-1], charts.tick),
        linear("share of pairs", 0, 1.08 * max(float(s.max()) for s in shares)),
        "Histograms of the distances of pairs that show one person and of pairs that show two",
        (roc.eer_threshold, f"{roc.eer_threshold:.3g}") if roc and roc.eer_threshold is not None else None,
    )
    rows = [[n, percent(a, 2), percent(b, 2)] for n, a, b in zip(names, *shares, strict=True)]
    about = "The less the two overlap, the better a threshold tells them apart."
    if roc and roc.eer_threshold is not None:
        about += f" At {roc.eer_threshold:.3g} both errors are equally frequent."
    return _chart("Distances", about, drawn, ["distance", "one person", "two people"], rows)


def _roc(roc: Roc) -> str:
    low = _decade(roc.fpr)
    says = [f"{_rate(f)} false matches: {_rate(t)} true ones" for f, t in zip(roc.fpr, roc.tpr, strict=True)]
    marks = [Mark(asked, tpr, f"{100 * tpr:.1f}") for asked, tpr, _ in roc.at if asked >= low]
    shown = roc.fpr >= low
    floor = np.floor(10 * float(roc.tpr[shown].min()) - 0.5) / 10
    drawn = charts.line_chart(
        [Line(roc.fpr, roc.tpr, says=says, marks=marks)],
        decades("false matches among pairs of two people", low, 1),
        linear("true matches among pairs of one person", max(0.0, floor), 1),
        "ROC curve",
    )
    return _chart("ROC", "Upper left is better.", drawn, _RATES, _rates(roc))


def _det(roc: Roc) -> str:
    missed = 1 - roc.tpr
    x, y = decades("false matches", _decade(roc.fpr), 1), decades("missed matches", _decade(missed), 1)
    kept = (roc.fpr > 0) & (missed > 0)
    if not kept.any():
        return ""  # no threshold makes both errors
    says = [f"{_rate(f)} false, {_rate(m)} missed" for f, m in zip(roc.fpr[kept], missed[kept], strict=True)]
    marks = [] if roc.eer is None else [Mark(roc.eer, roc.eer, f"equal error rate {percent(roc.eer)}")]
    drawn = charts.line_chart(
        [Line(roc.fpr[kept], missed[kept], "--accent", says, marks)], x, y, "DET curve", diagonal=True
    )
    about = "Lower left is better; on the dashed line both errors are equally frequent."
    return _chart("Detection error trade-off (DET)", about, drawn, _RATES, _rates(roc))


def _decade(rates: Floats) -> float:
    """The power of ten at or below the smallest rate above 0, at least a millionth."""
    smallest = float(rates[rates > 0].min(initial=0.1))
    return float(min(0.1, max(1e-6, 10.0 ** np.floor(np.log10(smallest) + 1e-9))))


def _rate(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _rates(roc: Roc) -> list[list[str]]:
    """About fifty points, evenly spread over those given."""
    chosen = np.unique(np.linspace(0, len(roc.fpr) - 1, 50).round().astype(int))
    return [[f"{roc.thresholds[i]:.4g}", *map(_rate, (roc.fpr[i], roc.tpr[i], 1 - roc.tpr[i]))] for i in chosen]


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


def _chart(heading: str, about: str, drawn: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A figure with the numbers it was drawn from."""
    return (
        f'<figure><figcaption><h3>{text(heading)}</h3><p class="quiet">{text(about)}</p></figcaption>\n'
        f"{drawn}\n{charts.table(head, rows, 'Numbers', heading)}</figure>\n"
    )


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
