"""What a search found, as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence

from reid.errors import ShapeError
from reid.pages import Mark, Pictures, card, judge, known, links, page, sign, text
from reid.types import Crop, Match

_NOTHING = '<p class="nothing">Nothing in the gallery was allowed by the filters.</p>'


def sheet(
    queries: Sequence[Crop],
    answers: Sequence[Sequence[Match]],
    title: str,
    facts: Sequence[tuple[str, str]] = (),
) -> str:
    """A page with each query and, beside it, the crops found for it, nearest first.

    An answer is marked right or wrong where both people are known; a distractor is wrong, junk counts neither way.
    Pictures become thumbnails without metadata, each embedded once however often it is shown, and one that cannot be
    read becomes a placeholder. The page can always be encoded as UTF-8.

    Args:
        queries: Q crops.
        answers: for each query its matches, none where the filters allowed none.
        title: the heading.
        facts: (name, value) pairs shown below it, such as the model and the size of the gallery.

    Raises:
        ShapeError: queries and answers differ in number.
    """
    if len(queries) != len(answers):
        raise ShapeError(f"there are {len(queries)} queries and {len(answers)} answers; give each query one answer")
    pictures = Pictures()
    firsts = [_first(query, matches) for query, matches in zip(queries, answers, strict=True)]
    sections = [_section(i, *row, pictures) for i, row in enumerate(zip(queries, answers, firsts, strict=True), 1)]
    calibrated = any(match.probability is not None for matches in answers for match in matches)
    key = _key(set(firsts) != {"unknown"}, calibrated)
    contents = _contents(firsts) if len(firsts) > 1 else ""
    head = f'<p class="key">{key}</p>\n{contents}'
    return page(title, _summary(firsts), facts, head, "\n".join(sections), pictures)


def _first(query: Crop, matches: Sequence[Match]) -> Mark:
    """The mark of a query's first answer that is not junk."""
    return next((judge(query, match.crop) for match in matches if match.crop.role != "junk"), "unknown")


def _summary(firsts: Sequence[Mark]) -> str:
    unknown = firsts.count("unknown")
    judged = len(firsts) - unknown
    if not judged:
        return ""
    noun = "query" if judged == 1 else "queries"
    rest = f"; {unknown} more cannot be judged" if unknown else ""
    return f"First answer right for {firsts.count('right')} of {judged} {noun}{rest}."


def _key(judged: bool, calibrated: bool) -> str:
    notes = [f"{sign('right')} same person as the query", f"{sign('wrong')} someone else"] if judged else []
    chance = ", probability of the same person" if calibrated else ""
    notes.append(f"below each picture: distance from the query (lower is closer){chance}")
    return "".join(f"<span>{note}</span>" for note in notes)


def _contents(firsts: Sequence[Mark]) -> str:
    """Links to the queries, and a box that hides those whose first answer is not wrong."""
    return links(firsts, "Queries", "Only queries whose first answer is wrong")


def _section(number: int, query: Crop, matches: Sequence[Match], first: Mark, pictures: Pictures) -> str:
    heading = query.name if query.pid is None else f"Person {query.pid}"
    cards = "\n".join(card(query, match, pictures) for match in matches)
    answers = f'<ol class="answers" tabindex="0">\n{cards}\n</ol>' if matches else _NOTHING  # on a phone it scrolls
    return f"""<section id="q{number}" class="first-{first}">
<figure class="query" title="{text(query.path)}">{pictures.show(query)}
<figcaption><p class="quiet">Query {number}</p><h2>{text(heading)}</h2>{known(query)}</figcaption></figure>
{answers}
</section>"""
