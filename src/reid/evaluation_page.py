"""One evaluation as an HTML page that needs nothing else: figures, curves, cameras, people, and the worst queries.

The page is templates/evaluation.html in the style of templates/sheet.html. Text from a user goes in through `_text`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from string import Template
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from reid import charts, metrics
from reid.charts import Axis, Bars, Line, Mark, decades, linear, percent
from reid.distance import smallest
from reid.errors import ShapeError
from reid.evaluation import PROTOCOLS, Distances, Outcomes, Sets
from reid.metrics import Rows
from reid.report import _card, _first, _known, _Pictures, _sign, _text
from reid.types import Crop, Match, Ranking, Report

Floats = NDArray[np.float64]

CMC_RANKS, HISTOGRAM_BINS, WORST_PEOPLE, WORST_QUERIES = 50, 60, 20, 12
_FIGURES = {
    "mAP": ("mAP", "mean average precision, plain"),
    "mAP-trapezoid": ("mAP, trapezoid", "as Market-1501’s own code has it"),
    "mINP": ("mINP", "how early the last match comes"),
}


@dataclass(frozen=True, slots=True, eq=False)
class CameraPairs:
    """How well the people that one camera saw are found in another.

    Attributes:
        query_cameras, gallery_cameras: names of the R rows and the C columns.
        queries: (R, C) queries of that camera with a valid match in that one.
        mean_ap, rank1: (R, C) plain mAP and rank-1 with the gallery restricted to that camera; NaN without queries.
    """

    query_cameras: tuple[str, ...]
    gallery_cameras: tuple[str, ...]
    queries: Rows
    mean_ap: Floats
    rank1: Floats


class Roc(NamedTuple):
    """How well a threshold on the distance tells one person from two.

    Attributes:
        fpr, tpr: (T,) false- and true-positive rate, both ascending.
        thresholds: (T,) the distance that leads to each, ascending.
        eer: the equal error rate.
        at: rows of (false-positive rate asked for, true-positive rate, threshold).
        about: how many pairs were counted, and how.
    """

    fpr: Floats
    tpr: Floats
    thresholds: Floats
    eer: float | None = None
    at: Sequence[tuple[float, float, float]] = ()
    about: str = ""


class Spread(NamedTuple):
    """Counts (B,) or shares of the distances between (B + 1,) edges, for pairs of one person and pairs of two."""

    edges: Floats
    same: NDArray[np.generic]
    different: NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class Details:
    """What the page can show beyond the outcomes; a part that is None is left out."""

    pairs: CameraPairs | None = None
    roc: Roc | None = None
    spread: Spread | None = None
    nearest: Ranking | None = None


def camera_pairs(
    distances: Distances, query: Sequence[Crop], gallery: Sequence[Crop], protocol: str = "market1501"
) -> CameraPairs:
    """Evaluate each camera's queries in each camera's gallery rows alone.

    Each cell is what `evaluate_distances` gives for these queries and these rows. Crops without a camera are in none.

    Args:
        distances: a (Q, G) matrix, or its rows in blocks as `distance.blocks` yields them.
    """
    sets, rule = Sets(query, gallery), PROTOCOLS[protocol].ignored
    froms, tos = _cameras(query), _cameras(gallery)
    camera = np.array([tos.index(c.camera) if c.camera is not None and c.role != "junk" else -1 for c in gallery])
    columns = [np.flatnonzero(camera == c) for c in range(len(tos))]
    place = np.zeros(len(gallery), dtype=np.int64)  # of a gallery row among its camera's
    for rows in columns:
        place[rows] = np.arange(len(rows))
    count = np.zeros((len(froms), len(tos)), dtype=np.int64)
    precision, first = np.zeros(count.shape), np.zeros(count.shape)
    for start, block in _blocks(distances):
        parts = [block[:, rows] for rows in columns]
        for i, crop in enumerate(query[start : start + len(block)]):
            if crop.camera is None:
                continue
            ignored = np.concatenate([rule(sets, start + i), sets.itself(start + i)])
            person = sets.person(start + i)
            correct = person[~np.isin(person, ignored)]
            for c in np.unique(camera[correct][camera[correct] >= 0]):
                here, out = place[correct[camera[correct] == c]], place[ignored[camera[ignored] == c]]
                hits = metrics.hits(parts[c][i], here, out)
                cell = froms.index(crop.camera), c
                count[cell] += 1
                precision[cell] += metrics.average_precision(hits)
                first[cell] += hits[0] == 0
    with np.errstate(invalid="ignore"):
        return CameraPairs(froms, tos, count, precision / count, first / count)


def nearest(
    distances: Distances,
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    protocol: str = "market1501",
    k: int = 10,
) -> Ranking:
    """The k nearest gallery rows of each query among those that the protocol leaves in.

    Args:
        distances: as for `camera_pairs`.
    """
    sets, rule, k = Sets(query, gallery), PROTOCOLS[protocol].ignored, min(k, len(gallery))
    ids = np.full((len(query), k), -1, dtype=np.int64)
    found = np.full((len(query), k), np.inf, dtype=np.float32)
    for start, block in _blocks(distances):
        kept = np.array(block, dtype=np.float32)
        for i, row in enumerate(kept, start):
            row[np.concatenate([sets.junk, rule(sets, i), sets.itself(i)])] = np.inf
        rows = slice(start, start + len(kept))
        ids[rows], found[rows] = smallest(kept, k)
    ids[np.isinf(found)] = -1
    return Ranking(ids, found)


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
        ("figures", "Figures", _figures(report) + _protocol(report) + _skipped(report, outcomes, query, gallery)),
        ("ranking", "Ranking", _ranking(report, outcomes)),
        ("verification", "Same person or not", _verification(details)),
        ("cameras", "Camera to camera", _camera_tables(details.pairs, report.protocol)),
        ("people", "People found worst", _people(outcomes, query, pictures)),
        ("queries", "Worst queries", _queries(outcomes, query, gallery, details.nearest, pictures)),
    ]
    parts = [part for part in parts if part[2]]
    templates = resources.files("reid").joinpath("templates")
    style = re.search(r"<style>\n(.*?)</style>", templates.joinpath("sheet.html").read_text(encoding="utf-8"), re.S)
    template = Template(templates.joinpath("evaluation.html").read_text(encoding="utf-8"))
    return template.substitute(
        title=_text(title),
        style=style[1] if style else "",
        summary=_summary(report),
        facts="".join(f"<div><dt>{_text(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in facts),
        contents="".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in parts),
        parts="\n".join(
            f'<div class="part" id="{name}">\n<h2>{heading}</h2>\n{body}\n</div>' for name, heading, body in parts
        ),
        pictures="\n".join(pictures.definitions),
    )


def _summary(report: Report) -> str:
    best = [f"{name} {percent(report.metrics[name])}" for name in ("mAP", "rank-1") if name in report.metrics]
    again = " after re-ranking" if report.reranking else ""
    noun = "query" if report.queries == 1 else "queries"
    counted = f"{report.queries:,} {noun} in a gallery of {report.gallery:,}, protocol {report.protocol}"
    return _text(f"{', '.join(best)}{again}: {counted}.")


def _figures(report: Report) -> str:
    tiles = []
    for name, value in report.metrics.items():
        rank = name.removeprefix("rank-")
        about = "first answer right" if rank == "1" else f"a right answer among the first {rank}"
        heading, about = _FIGURES.get(name, (name, about))
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
    note = ""
    if report.intervals:
        note = (
            '<p class="note">Below a figure: where it lies with 95 % confidence, had other people of the same crowd been '
            "filmed (bootstrap over people). Two models whose ranges overlap widely cannot be told apart here.</p>"
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>\n{note}'


def _protocol(report: Report) -> str:
    about = PROTOCOLS[report.protocol].about if report.protocol in PROTOCOLS else ""
    again = ""
    if report.reranking:
        again = f"<p><b>Re-ranked</b> with {_text(report.reranking)}. Compare with re-ranked figures only.</p>"
    return f"""<div class="note">
<p><b>Protocol {_text(report.protocol)}.</b> {_text(_sentence(about))}</p>{again}
<p><b>mAP</b> is the plain mean of precision at each match, as in torchreid, fast-reid and BoT; papers that used \
Market-1501’s MATLAB code, such as st-ReID, report the trapezoid, which is lower.</p>
</div>"""


def _sentence(text: str) -> str:
    """With a capital and a full stop, and its code words without backquotes."""
    text = text.replace("`", "")
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _skipped(report: Report, outcomes: Outcomes, query: Sequence[Crop], gallery: Sequence[Crop]) -> str:
    if not report.skipped:
        return '<p class="note"><b>Every query was counted:</b> each has a valid match in the gallery.</p>'
    there = {crop.pid for crop in gallery if crop.role == "person"}
    reasons = Counter(_why_skipped(query[i], there) for i in outcomes.skipped)
    lines = "".join(f"<li>{count:,}: {_text(reason)}</li>" for reason, count in reasons.most_common())
    noun = "query was" if report.skipped == 1 else "queries were"
    rows = [[query[i].name, query[i].pid or "unknown", query[i].camera or "unknown"] for i in outcomes.skipped[:100]]
    shown = "Which" if report.skipped <= 100 else "The first 100"
    return (
        f'<div class="note"><p><b>{report.skipped:,} {noun} skipped</b>, as nothing in the gallery counts as a match; '
        f"they enter no figure.</p><ul>{lines}</ul>{charts.table(['query', 'person', 'camera'], rows, shown)}</div>"
    )


def _why_skipped(crop: Crop, there: set[str | None]) -> str:
    if crop.role != "person" or crop.pid is None:
        return "it is not known who the query shows"
    if crop.pid not in there:
        return "the person is not in the gallery"
    return "the protocol takes out all that the gallery has of the person, such as pictures by the query’s own camera"


def _ranking(report: Report, outcomes: Outcomes) -> str:
    return f'<div class="charts">{_cmc(report, outcomes)}{_precisions(report, outcomes)}</div>'


def _cmc(report: Report, outcomes: Outcomes) -> str:
    ranks = np.arange(1.0, max(2, min(CMC_RANKS, report.gallery)) + 1)
    share = np.searchsorted(np.sort(outcomes.first), ranks) / len(outcomes.first)
    marks = [
        Mark(rank, value, f"{100 * value:.1f}", *report.intervals.get(f"rank-{rank}", (None, None)))
        for rank, value in ((r, report.metrics.get(f"rank-{r}")) for r in range(1, len(ranks) + 1))
        if value is not None
    ]
    lowest = min([float(share[0]), *(mark.low for mark in marks if mark.low is not None)])
    floor = max(0.0, np.floor(10 * lowest - 0.5) / 10)
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
    about = "How often a right answer is among the first answers; upright lines: 95 % intervals."
    about = about if report.intervals else about.split(";")[0] + "."
    return _chart("Cumulative matches (CMC)", about, drawn, charts.table(["rank", "queries"], rows))


def _precisions(report: Report, outcomes: Outcomes) -> str:
    edges = np.linspace(0, 1, 21)
    counts = np.histogram(outcomes.plain, edges)[0]
    names = [f"{a:.2f} – {b:.2f}" for a, b in pairwise(edges)]
    says = [f"AP {name}: {count:,} queries" for name, count in zip(names, counts, strict=True)]
    mean = float(outcomes.plain.mean())
    top = float(counts.max())
    drawn = charts.histogram(
        edges,
        [Bars("queries", counts, says=says)],
        linear("average precision of a query", 0, 1, charts.tick),
        linear("queries", 0, top * 1.12, charts.tick),
        f"Histogram of average precision over {len(outcomes.plain):,} queries, mean {percent(mean)}",
        Mark(mean, 0, f"mAP {100 * mean:.1f}"),
    )
    rows = [[name, f"{count:,}"] for name, count in zip(names, counts, strict=True)]
    perfect, lost = np.count_nonzero(outcomes.plain == 1), np.count_nonzero(outcomes.plain < 0.1)
    about = f"{perfect:,} queries are ranked without a mistake, {lost:,} have an average precision below 0.1."
    return _chart("Average precision", about, drawn, charts.table(["average precision", "queries"], rows))


def _verification(details: Details) -> str:
    roc, spread = details.roc, details.spread
    if roc is not None and spread is None:
        spread = _spread(roc)
    parts = []
    if spread is not None:
        parts.append(_distances(spread, roc))
    if roc is not None:
        parts += [_roc(roc), _det(roc)]
    about = f'<p class="note">{_text(roc.about)}</p>' if roc and roc.about else ""
    return f'{about}<div class="charts">{"".join(parts)}</div>{_thresholds(roc)}' if parts else ""


def _spread(roc: Roc) -> Spread | None:
    """From the rates, which are the shares of pairs up to each threshold."""
    finite = np.isfinite(roc.thresholds)
    at = roc.thresholds[finite]
    if len(at) < 3 or at[0] == at[-1]:
        return None
    edges = np.linspace(at[0], at[-1], HISTOGRAM_BINS + 1)
    same, different = (np.diff(np.interp(edges, at, rate[finite])) for rate in (roc.tpr, roc.fpr))
    return Spread(edges, same, different)


def _distances(spread: Spread, roc: Roc | None) -> str:
    edges = np.asarray(spread.edges, dtype=np.float64)
    shares = [np.asarray(c, dtype=np.float64) / max(np.sum(c), 1e-12) for c in (spread.same, spread.different)]
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
    )
    rows = [[n, percent(a, 2), percent(b, 2)] for n, a, b in zip(names, *shares, strict=True)]
    about = "The less the two overlap, the better a threshold can tell them apart."
    return _chart("Distances", about, drawn, charts.table(["distance", "one person", "two people"], rows))


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
    return _chart("ROC", "Upper left is better.", drawn, _rates_table(roc))


def _det(roc: Roc) -> str:
    missed = 1 - roc.tpr
    x, y = decades("false matches", _decade(roc.fpr), 1), decades("missed matches", _decade(missed), 1)
    kept = (roc.fpr > 0) & (missed > 0)
    says = [f"{_rate(f)} false, {_rate(m)} missed" for f, m in zip(roc.fpr[kept], missed[kept], strict=True)]
    marks = [] if roc.eer is None else [Mark(roc.eer, roc.eer, f"equal error rate {percent(roc.eer)}")]
    drawn = charts.line_chart(
        [Line(roc.fpr[kept], missed[kept], "--accent", says, marks)], x, y, "DET curve", diagonal=True
    )
    about = "Lower left is better; on the dashed line both errors are equally frequent."
    return _chart("Detection error trade-off (DET)", about, drawn, "")


def _decade(rates: Floats) -> float:
    """The power of ten at or below the smallest rate above 0, at least a millionth."""
    smallest = float(rates[rates > 0].min(initial=0.1))
    return float(min(0.1, max(1e-6, 10.0 ** np.floor(np.log10(smallest) + 1e-9))))


def _rate(rate: float) -> str:
    return f"{100 * rate:.3g} %"


def _rates_table(roc: Roc) -> str:
    """About fifty points, evenly spread."""
    chosen = np.unique(np.linspace(0, len(roc.fpr) - 1, 50).round().astype(int))
    rows = [[f"{roc.thresholds[i]:.4g}", _rate(roc.fpr[i]), _rate(roc.tpr[i]), _rate(1 - roc.tpr[i])] for i in chosen]
    return charts.table(["distance up to", "false matches", "true matches", "missed matches"], rows)


def _thresholds(roc: Roc | None) -> str:
    if roc is None or not roc.at:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_rate(asked)}</th><td>{percent(tpr)}</td><td>{threshold:.4g}</td></tr>'
        for asked, tpr, threshold in roc.at
    )
    return f"""<table class="plain"><caption>Where to put the threshold</caption>
<thead><tr><th scope="col">false matches allowed</th><th scope="col">true matches</th>\
<th scope="col">accept a distance up to</th></tr></thead>
<tbody>{rows}</tbody></table>"""


def _chart(heading: str, about: str, drawn: str, numbers: str) -> str:
    return (
        f'<figure><figcaption><h3>{_text(heading)}</h3><p class="quiet">{_text(about)}</p></figcaption>\n'
        f"{drawn}\n{numbers}</figure>\n"
    )


def _camera_tables(pairs: CameraPairs | None, protocol: str) -> str:
    if pairs is None or not pairs.queries.any():
        return ""
    notes = [[f"{n:,}" if n else "no query has a match there" for n in row] for row in pairs.queries]
    corner = r"from \ to"
    tables = "".join(
        f'<div class="scroll" tabindex="0">'
        f"{charts.heat_map(pairs.query_cameras, pairs.gallery_cameras, values, notes, corner, name)}</div>"
        for name, values in (("mAP, %", pairs.mean_ap), ("rank-1, %", pairs.rank1))
    )
    cells = [
        (float(pairs.mean_ap[r, c]), f"{_text(a)} → {_text(b)}", int(pairs.queries[r, c]))
        for r, a in enumerate(pairs.query_cameras)
        for c, b in enumerate(pairs.gallery_cameras)
        if pairs.queries[r, c]
    ]
    extremes = ""
    if len(cells) > 1:
        (worst, where, n), (best, there, m) = min(cells), max(cells)
        extremes = (
            f" Hardest: camera <b>{where}</b>, mAP {percent(worst)} over {n:,} {'query' if n == 1 else 'queries'}; "
            f"easiest: <b>{there}</b>, {percent(best)} over {m:,}."
        )
    return (
        '<p class="note">Each row is one camera’s queries, each column a gallery of one camera alone; below each '
        "figure how many queries it stands for. A small gallery is easier to search than a large one, so that most "
        f"cells exceed the total.{extremes}</p>\n"
        f'<div class="heats">{tables}</div>'
    )


def _people(outcomes: Outcomes, query: Sequence[Crop], pictures: _Pictures) -> str:
    _, row, person = np.unique(outcomes.people, return_index=True, return_inverse=True)
    count = np.bincount(person)
    mean = np.bincount(person, outcomes.plain) / count
    right = np.bincount(person, outcomes.first == 0).astype(int)
    latest = np.zeros(len(count), dtype=np.int64)
    np.maximum.at(latest, person, outcomes.first)
    lines = []
    for p in np.argsort(mean, kind="stable")[:WORST_PEOPLE]:
        crop = query[outcomes.counted[row[p]]]
        bar = f'<span class="track" aria-hidden="true"><span style="width: {100 * mean[p]:.1f}%"></span></span>'
        lines.append(
            f'<tr><th scope="row"><span class="who">{pictures.show(crop)}{_text(crop.pid or "")}</span></th>'
            f"<td>{bar}{percent(mean[p])}</td><td>{right[p]:,} of {count[p]:,}</td><td>{latest[p] + 1:,}</td></tr>"
        )
    return f"""<p class="note">The {len(lines)} people with the lowest mean average precision, of {len(count):,}.</p>
<div class="scroll" tabindex="0"><table class="plain people">
<thead><tr><th scope="col">person</th><th scope="col">mean AP</th><th scope="col">first answer right</th>\
<th scope="col">latest first match, rank</th></tr></thead>
<tbody>{"".join(lines)}</tbody></table></div>"""


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
        raise ShapeError(f"there are {len(nearest)} rankings for {len(query)} queries; give each query one")
    order = np.argsort(outcomes.plain, kind="stable")
    _, worst = np.unique(outcomes.people[order], return_index=True)
    chosen = order[np.sort(worst)[:WORST_QUERIES]]
    rows = outcomes.counted[chosen]
    below = min(0.0, float(nearest.distances[rows].min(initial=0)))  # of negated similarities, which Match refuses
    shifted = Ranking(nearest.ids[rows], nearest.distances[rows] - np.float32(below))
    cases = [
        _case(number, query[i], matches, f"AP {percent(outcomes.plain[v])}", int(outcomes.first[v]) + 1, pictures)
        for number, (v, i, matches) in enumerate(zip(chosen, rows, shifted.matches(gallery), strict=True), 1)
    ]
    shift = f" Distances are given above the lowest of them, {below:.3g}." if below else ""
    key = f"<span>{_sign('right')} same person as the query</span><span>{_sign('wrong')} someone else</span>"
    return f"""<p class="note">The queries with the lowest average precision, at most one a person, and the nearest \
rows of the gallery that the protocol counts.{shift}</p>
<p class="key">{key}<span>below each picture: distance from the query</span></p>
{chr(10).join(cases)}"""


def _case(number: int, query: Crop, matches: Sequence[Match], precision: str, first: int, pictures: _Pictures) -> str:
    cards = "\n".join(_card(query, match, pictures) for match in matches)
    return f"""<section id="q{number}" class="first-{_first(query, matches)}">
<figure class="query" title="{_text(query.path)}">{pictures.show(query)}
<figcaption><p class="quiet">Query {number}</p><h3>Person {_text(query.pid or "")}</h3>
<p>{precision}</p><p>first match at rank <b>{first:,}</b></p>{_known(query)}</figcaption></figure>
<ol class="answers" tabindex="0">
{cards}
</ol>
</section>"""


def _blocks(distances: Distances, step: int = 256) -> Iterator[tuple[int, NDArray[np.floating]]]:
    """The distances a few rows at a time, each with the first row's query."""
    if isinstance(distances, np.ndarray):
        yield from ((start, distances[start : start + step]) for start in range(0, len(distances), step))
    else:
        yield from ((rows.start, block) for rows, block in distances)


def _cameras(crops: Sequence[Crop]) -> tuple[str, ...]:
    """The names of cameras, the numbers in them in order."""
    names = {c.camera for c in crops if c.camera is not None}
    return tuple(sorted(names, key=lambda name: [p.zfill(9) if p.isdecimal() else p for p in re.split(r"(\d+)", name)]))
