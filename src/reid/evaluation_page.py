"""One evaluation as an HTML page that needs nothing else: figures, curves, cameras, people, and the worst queries.

The page is templates/evaluation.html in the style of templates/sheet.html. Text from a user goes in through `_text`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from itertools import pairwise
from string import Template
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid import charts
from reid.breakdown import CameraPairs, Spread
from reid.charts import Axis, Bars, Line, Mark, decades, linear, percent
from reid.data.findings import many
from reid.errors import ShapeError
from reid.evaluation import PROTOCOLS, Outcomes
from reid.metrics import Rows
from reid.report import _card, _known, _Pictures, _sign, _text
from reid.types import Crop, Match, Ranking, Report

Floats = NDArray[np.float64]

SKIPPED_NAMED, WORST_PEOPLE, WORST_LOOKS, WORST_QUERIES = 100, 20, 6, 12
_FIGURES = {
    "mAP": ("mAP", "mean average precision, plain"),
    "mAP-trapezoid": ("mAP, trapezoid", "as Market-1501’s own code has it"),
    "mINP": ("mINP", "how early the last match comes"),
    "EER": ("equal error rate", "both kinds of mistake are this frequent"),
}
_RATES = ("distance up to", "false matches", "true matches", "missed matches")
_PEOPLE = ("person", "mean AP", "first right", "latest at", "queries")


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


@dataclass(frozen=True, slots=True)
class Details:
    """What the page can show beyond the outcomes, from `breakdown` and `roc`; a part that is None is left out."""

    cameras: CameraPairs | None = None
    roc: Roc | None = None
    spread: Spread | None = None
    nearest: Ranking | None = None


def page(
    title: str,
    report: Report,
    outcomes: Outcomes,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    facts: Sequence[tuple[str, str]] = (),
    details: Details | None = None,
) -> str:
    """The page as text that can always be encoded as UTF-8.

    Args:
        title: the heading.
        report, outcomes: of one evaluation.
        query, gallery: the crops that were evaluated.
        facts: (name, value) pairs shown below the heading, such as the model and the data.
        details: further parts.

    Raises:
        ShapeError: report, outcomes and crops do not belong together.
    """
    details = details or Details()
    if report.queries != len(outcomes.counted) or len(query) != report.queries + report.skipped:
        raise ShapeError(
            f"the report counts {report.queries} of {report.queries + report.skipped} queries, the outcomes "
            f"{len(outcomes.counted)} of {len(query)}; give those of one evaluation"
        )
    pictures = _Pictures()
    parts = [
        ("figures", "Figures", _figures(report) + _notes(report, outcomes, query, gallery)),
        ("ranking", "Ranking", _ranking(report, outcomes, query)),
        ("verification", "Same person or not", _verification(details)),
        ("cameras", "Camera to camera", _camera_tables(details.cameras, outcomes, query)),
        ("people", "People found worst", _people(outcomes, query, pictures)),
        ("queries", "Worst queries", _queries(outcomes, query, gallery, details.nearest, pictures)),
    ]
    parts = [part for part in parts if part[2]]
    return Template(_template("evaluation.html")).substitute(
        title=_text(title),
        style=_template("sheet.html").partition("<style>\n")[2].partition("</style>")[0],
        summary=_summary(report),
        facts="".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts),
        contents="".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in parts),
        parts="\n".join(
            f'<div class="part" id="{name}">\n<h2>{heading}</h2>\n{body}\n</div>' for name, heading, body in parts
        ),
        pictures="\n".join(pictures.definitions),
    )


def _template(name: str) -> str:
    return resources.files("reid").joinpath("templates", name).read_text(encoding="utf-8")


def _summary(report: Report) -> str:
    best = [f"{name} {percent(report.metrics[name])}" for name in ("mAP", "rank-1") if name in report.metrics]
    again = " after re-ranking" if report.reranking else ""
    counted = (
        f"{many(report.queries, 'query', 'queries')} in a gallery of {report.gallery:,}, protocol {report.protocol}"
    )
    return _text(f"{', '.join(best)}{again}: {counted}.")


def _figure(name: str) -> tuple[str, str]:
    """The heading and the meaning of a figure whose name holds a number.

    >>> _figure("TPR@FPR=0.001")
    ('TPR at 0.1 %', 'pairs of one person accepted, when 0.1 % of others are')
    """
    kind, _, number = name.replace("rank-", "rank=").partition("=")
    if kind == "rank":
        return name, "first answer right" if number == "1" else f"a right answer among the first {number}"
    share = f"{100 * float(number):g} %" if number else ""
    if kind == "TPR@FPR":
        return f"TPR at {share}", f"pairs of one person accepted, when {share} of others are"
    if kind == "FNIR@FPIR":
        return f"FNIR at {share}", f"known people missed, when {share} of strangers raise an alarm"
    return name, ""


def _figures(report: Report) -> str:
    tiles = []
    for name, value in report.metrics.items():
        heading, about = _FIGURES.get(name) or _figure(name)
        low, high = report.intervals.get(name, (None, None))
        spread = ""
        if low is not None and high is not None:
            width = max(100 * (high - low), 1)
            track = f'<span class="track"><span style="left: {100 * low:.2f}%; width: {width:.2f}%"></span></span>'
            between = f"{100 * low:.1f} – {100 * high:.1f}"
            spread = f'<dd class="spread">{track}<span class="spoken">95 % within </span>{between}</dd>'
        tiles.append(
            f'<div><dt>{_text(heading)}</dt><dd class="value">{percent(value)}</dd>{spread}'
            f'<dd class="quiet">{_text(about)}</dd></div>'
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>\n'


def _notes(report: Report, outcomes: Outcomes, query: Sequence[Crop], gallery: Sequence[Crop]) -> str:
    """How to read the figures, what they can be compared with, and what they leave out."""
    about = PROTOCOLS[report.protocol].about if report.protocol in PROTOCOLS else ""
    again = f"<p><b>Re-ranked</b> with {_text(report.reranking)}; compare with re-ranked figures only.</p>"
    drawn = many(report.people, "person", "people")
    ranges = f"""<p><b>The range below a figure</b> is its 95 % confidence interval, by bootstrap over {drawn}. Two \
models whose ranges overlap widely cannot be told apart with these queries.</p>"""
    return f"""<div class="notes">
<div><p><b>Protocol {_text(report.protocol)}.</b> {_text(_sentence(about))}</p>{again if report.reranking else ""}</div>
<div><p><b>mAP</b> is the mean of plain average precision, as in torchreid, fast-reid and BoT. Papers that used \
Market-1501’s MATLAB code, such as st-ReID, report the trapezoid, which is lower.</p>\
{ranges if report.intervals else ""}</div>
<div>{_skipped(report, outcomes, query, gallery)}</div>
</div>"""


def _sentence(text: str) -> str:
    """With a capital and a full stop, and its code words without backquotes."""
    text = text.replace("`", "")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _skipped(report: Report, outcomes: Outcomes, query: Sequence[Crop], gallery: Sequence[Crop]) -> str:
    if not report.skipped:
        return "<p><b>Every query was counted:</b> each has a match in the gallery that counts.</p>"
    there = {crop.pid for crop in gallery if crop.role == "person"}
    reasons = Counter(_why_skipped(query[i], there) for i in outcomes.skipped)
    lines = "".join(f"<li>{count:,}: {_text(reason)}</li>" for reason, count in reasons.most_common())
    noun = "query was" if report.skipped == 1 else "queries were"
    left_out = [query[i] for i in outcomes.skipped[:SKIPPED_NAMED]]
    rows = [[crop.name, crop.pid or "unknown", crop.camera or "unknown"] for crop in left_out]
    shown = "Which ones" if report.skipped <= SKIPPED_NAMED else f"The first {SKIPPED_NAMED}"
    named = charts.table(["query", "person", "camera"], rows, shown, "queries were skipped")
    return f"""<p><b>{report.skipped:,} {noun} skipped</b>, as nothing in the gallery counts as a match; they enter no \
figure.</p><ul>{lines}</ul>{named}"""


def _why_skipped(crop: Crop, there: set[str | None]) -> str:
    if crop.role != "person" or crop.pid is None:
        return "it is not known who the query shows"
    if crop.pid not in there:
        return "the person is not in the gallery"
    return "the protocol takes out all that the gallery has of the person, such as pictures by the query’s own camera"


def _ranking(report: Report, outcomes: Outcomes, query: Sequence[Crop]) -> str:
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
    people = _by_person(outcomes)
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


class _People(NamedTuple):
    """By person: which outcomes are theirs, the lowest average precision first, and the mean of that."""

    rows: list[Rows]
    mean: Floats


def _by_person(outcomes: Outcomes) -> _People:
    order = np.lexsort((outcomes.plain, outcomes.people))
    starts = np.flatnonzero(np.diff(outcomes.people[order], prepend=-1))
    rows = np.split(order, starts[1:])
    return _People(rows, np.array([outcomes.plain[r].mean() for r in rows]))


def _verification(details: Details) -> str:
    roc, parts = details.roc, []
    if details.spread is not None:
        parts.append(_distances(details.spread, roc))
    if roc is not None:
        parts += [_roc(roc), _det(roc)]
    about = f'<p class="note">{_text(roc.about)}</p>\n' if roc and roc.about else ""
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
        f'<figure><figcaption><h3>{_text(heading)}</h3><p class="quiet">{_text(about)}</p></figcaption>\n'
        f"{drawn}\n{charts.table(head, rows, 'Numbers', heading)}</figure>\n"
    )


def _camera_tables(pairs: CameraPairs | None, outcomes: Outcomes, query: Sequence[Crop]) -> str:
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
        f"{word}: <b>{_text(pairs.query_cameras[r])} → {_text(pairs.gallery_cameras[c])}</b>, "
        f"mAP {percent(pairs.mean_ap[r, c])} ({pairs.queries[r, c]:,})."
        for word, (r, c) in zip(("Hardest", "Easiest"), (order[0], order[-1]), strict=True)
    ]
    return f"""<p class="note">Each row is one camera’s queries; each column a gallery of one camera alone, the last \
one the whole gallery, with more to confuse and more to find. Below each figure: how many queries it stands for. \
{" ".join(extremes) if len(order) > 1 else ""}</p>
<div class="heats" style="--columns: {len(pairs.gallery_cameras) + 2}">{"".join(tables)}</div>"""


def _people(outcomes: Outcomes, query: Sequence[Crop], pictures: _Pictures) -> str:
    people = _by_person(outcomes)
    if len(people.rows) < 2:
        return ""
    lines = []
    for p in np.argsort(people.mean, kind="stable")[:WORST_PEOPLE]:
        rows = people.rows[p]
        name = query[outcomes.counted[rows[0]]].pid or ""
        bar = f'<span class="track" aria-hidden="true"><span style="width: {100 * people.mean[p]:.1f}%"></span></span>'
        looks = "".join(
            f'<span title="AP {percent(outcomes.plain[v])}, first match at rank {outcomes.first[v] + 1:,}">'
            f"{pictures.show(query[outcomes.counted[v]])}</span>"
            for v in rows[:WORST_LOOKS]
        )
        lines.append(
            f'<tr><th scope="row">{_text(name)}</th><td>{bar}{percent(people.mean[p])}</td>'
            f"<td>{np.count_nonzero(outcomes.first[rows] == 0):,} of {len(rows):,}</td>"
            f'<td>{outcomes.first[rows].max() + 1:,}</td><td class="looks">{looks}</td></tr>'
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in _PEOPLE)
    half = max(10, -(-len(lines) // 2))
    tables = "\n".join(
        f'<div class="scroll" tabindex="0"><table class="plain people"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{''.join(lines[start : start + half])}</tbody></table></div>"
        for start in range(0, len(lines), half)
    )
    shown = "All" if len(lines) == len(people.rows) else f"The {len(lines)} worst of"
    return f"""<p class="note">{shown} {len(people.rows):,} people, by mean average precision. Beside it: how often \
the first answer is right, the latest rank at which a query meets its first match, and the queries, worst first.</p>
<div class="halves">{tables}</div>"""


def _queries(
    outcomes: Outcomes,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    nearest: Ranking | None,
    pictures: _Pictures,
) -> str:
    if nearest is None:
        return ""
    if len(nearest) != len(query):
        raise ShapeError(f"rankings: {len(nearest)}, queries: {len(query)}; give each query one")
    order = np.argsort(outcomes.plain, kind="stable")
    _, worst = np.unique(outcomes.people[order], return_index=True)
    chosen = order[np.sort(worst)[:WORST_QUERIES]]
    rows = outcomes.counted[chosen]
    below = min(0.0, float(nearest.distances[rows].min(initial=0)))  # of negated similarities, which Match refuses
    shifted = Ranking(nearest.ids[rows], nearest.distances[rows] - np.float32(below))
    cases = [
        _case(number, query[i], matches, outcomes, v, pictures)
        for number, (v, i, matches) in enumerate(zip(chosen, rows, shifted.matches(gallery), strict=True), 1)
    ]
    shift = f" Distances are given above the lowest of them, {charts.tick(float(f'{below:.3g}'))}." if below else ""
    key = f"<span>{_sign('right')} same person as the query</span><span>{_sign('wrong')} someone else</span>"
    return f"""<p class="note">The queries with the lowest average precision, at most one a person. Beside each the \
nearest rows of the gallery that the protocol counts, and the first match, however late it comes.{shift}</p>
<p class="key">{key}<span>below each picture: distance from the query</span></p>
{chr(10).join(cases)}"""


def _case(number: int, query: Crop, matches: Sequence[Match], outcomes: Outcomes, v: int, pictures: _Pictures) -> str:
    first = int(outcomes.first[v]) + 1
    ranked = [replace(m, rank=first) if m.crop.pid == query.pid and m.rank < first else m for m in matches]
    cards = "\n".join(_card(query, match, pictures) for match in ranked)
    return f"""<section id="q{number}">
<figure class="query" title="{_text(query.path)}">{pictures.show(query)}
<figcaption><p class="quiet">Query {number}</p><h3>Person {_text(query.pid or "")}</h3>
<p>AP <b>{percent(outcomes.plain[v])}</b></p><p>first match at rank <b>{first:,}</b></p>\
{_known(query)}</figcaption></figure>
<ol class="answers" tabindex="0">
{cards}
</ol>
</section>"""
