"""One evaluation as an HTML page that needs nothing else: figures, curves, cameras, people, and the worst queries.

Text from a user goes in through `text`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reid import charts, pages
from reid.breakdown import CameraPairs, Spread
from reid.charts import percent
from reid.errors import ShapeError
from reid.evaluation import PROTOCOLS, Outcomes
from reid.evaluation_charts import Roc, by_person, camera_tables, ranking, verification
from reid.pages import Pictures, card, known, sign, text
from reid.types import Crop, Match, Ranking, Report
from reid.wording import many

SKIPPED_NAMED, WORST_PEOPLE, WORST_LOOKS, WORST_QUERIES = 100, 20, 6, 12
_FIGURES = {
    "mAP": ("mAP", "mean average precision, plain"),
    "mAP-trapezoid": ("mAP, trapezoid", "as Market-1501’s own code has it"),
    "mINP": ("mINP", "how early the last match comes"),
    "EER": ("equal error rate", "both kinds of mistake are this frequent"),
}
_PEOPLE = ("person", "mean AP", "first right", "latest at", "queries")


@dataclass(frozen=True, slots=True)
class Details:
    """What the page can show beyond the outcomes, from `breakdown` and `roc`; a part that is None is left out.

    Attributes:
        compare: with whose figures these can be compared, where it is not those that the protocol names.
    """

    cameras: CameraPairs | None = None
    roc: Roc | None = None
    spread: Spread | None = None
    nearest: Ranking | None = None
    compare: str = ""


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
    pictures = Pictures()
    parts = [
        ("figures", "Figures", _figures(report) + _notes(report, outcomes, query, gallery, details.compare)),
        ("ranking", "Ranking", ranking(report, outcomes, query)),
        ("verification", "Same person or not", verification(details.roc, details.spread)),
        ("cameras", "Camera to camera", camera_tables(details.cameras, outcomes, query)),
        ("people", "People found worst", _people(outcomes, query, pictures)),
        ("queries", "Worst queries", _queries(outcomes, query, gallery, details.nearest, pictures)),
    ]
    parts = [part for part in parts if part[2]]
    links = "".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading, _ in parts)
    contents = f'<nav aria-label="Contents"><ol>{links}</ol></nav>'
    main = "\n".join(
        f'<div class="part" id="{name}">\n<h2>{heading}</h2>\n{body}\n</div>' for name, heading, body in parts
    )
    return pages.page(title, _summary(report), facts, contents, main, pictures, ["chart.css", "evaluation.css"])


def _summary(report: Report) -> str:
    best = [f"{name} {percent(report.metrics[name])}" for name in ("mAP", "rank-1") if name in report.metrics]
    again = " after re-ranking" if report.reranking else ""
    counted = (
        f"{many(report.queries, 'query', 'queries')} in a gallery of {report.gallery:,}, protocol {report.protocol}"
    )
    return f"{', '.join(best)}{again}: {counted}."


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
            f'<div><dt>{text(heading)}</dt><dd class="value">{percent(value)}</dd>{spread}'
            f'<dd class="quiet">{text(about)}</dd></div>'
        )
    return f'<dl class="tiles">{"".join(tiles)}</dl>\n'


def _notes(report: Report, outcomes: Outcomes, query: Sequence[Crop], gallery: Sequence[Crop], compare: str) -> str:
    """How to read the figures, what they can be compared with, and what they leave out."""
    rule = PROTOCOLS.get(report.protocol)
    about = f"{rule.about}; comparable with {compare or rule.compare}" if rule else ""
    again = f"<p><b>Re-ranked</b> with {text(report.reranking)}; compare with re-ranked figures only.</p>"
    drawn = many(report.people, "person", "people")
    ranges = f"""<p><b>The range below a figure</b> is its 95 % confidence interval, by bootstrap over {drawn}. Two \
models whose ranges overlap widely cannot be told apart with these queries.</p>"""
    return f"""<div class="notes">
<div><p><b>Protocol {text(report.protocol)}.</b> {text(_sentence(about))}</p>{again if report.reranking else ""}</div>
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
    lines = "".join(f"<li>{count:,}: {text(reason)}</li>" for reason, count in reasons.most_common())
    noun, they = ("query was", "it enters") if report.skipped == 1 else ("queries were", "they enter")
    left_out = [query[i] for i in outcomes.skipped[:SKIPPED_NAMED]]
    rows = [[crop.name, crop.pid or "unknown", crop.camera or "unknown"] for crop in left_out]
    shown = "Which ones" if report.skipped <= SKIPPED_NAMED else f"The first {SKIPPED_NAMED}"
    named = charts.table(["query", "person", "camera"], rows, shown, "queries were skipped")
    return f"""<p><b>{report.skipped:,} {noun} skipped</b>, as nothing in the gallery counts as a match; {they} no \
figure.</p><ul>{lines}</ul>{named}"""


def _why_skipped(crop: Crop, there: set[str | None]) -> str:
    if crop.role != "person" or crop.pid is None:
        return "it is not known who the query shows"
    if crop.pid not in there:
        return "the person is not in the gallery"
    return "the protocol takes out all that the gallery has of the person, such as pictures by the query’s own camera"


def _people(outcomes: Outcomes, query: Sequence[Crop], pictures: Pictures) -> str:
    people = by_person(outcomes)
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
            f'<tr><th scope="row">{text(name)}</th><td>{bar}{percent(people.mean[p])}</td>'
            f"<td>{np.count_nonzero(outcomes.first[rows] == 0):,} of {len(rows):,}</td>"
            f'<td>{outcomes.first[rows].max() + 1:,}</td><td class="looks">{looks}</td></tr>'
        )
    head = "".join(f'<th scope="col">{name}</th>' for name in _PEOPLE)
    half = len(lines) if len(lines) <= 10 else -(-len(lines) // 2)
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
    pictures: Pictures,
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
    key = f"<span>{sign('right')} same person as the query</span><span>{sign('wrong')} someone else</span>"
    return f"""<p class="note">The queries with the lowest average precision, at most one a person. Beside each the \
nearest rows of the gallery that the protocol counts, and the first match, however late it comes.{shift}</p>
<p class="key">{key}<span>below each picture: distance from the query</span></p>
{chr(10).join(cases)}"""


def _case(number: int, query: Crop, matches: Sequence[Match], outcomes: Outcomes, v: int, pictures: Pictures) -> str:
    first = int(outcomes.first[v]) + 1
    ranked = [replace(m, rank=first) if m.crop.pid == query.pid and m.rank < first else m for m in matches]
    cards = "\n".join(card(query, match, pictures) for match in ranked)
    return f"""<section id="q{number}">
<figure class="query" title="{text(query.path)}">{pictures.show(query)}
<figcaption><p class="quiet">Query {number}</p><h3>Person {text(query.pid or "")}</h3>
<p>AP <b>{percent(outcomes.plain[v])}</b></p><p>first match at rank <b>{first:,}</b></p>\
{known(query)}</figcaption></figure>
<ol class="answers" tabindex="0">
{cards}
</ol>
</section>"""
