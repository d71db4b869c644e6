"""A contact sheet of identities, as one HTML file that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from reid.charts import percent
from reid.cluster.agreement import Agreement
from reid.cluster.identities import Clusters
from reid.metrics import Rows
from reid.pages import Mark, Pictures, known, links, page, sign, text
from reid.types import Crop, Embeddings

PICTURES, SECTIONS, ALONE = 24, 1000, 96  # shown of an identity, of all, and of crops that are alone
_NOTE = (
    "Nobody has confirmed these identities: they are crops that look alike to the model. Look before you rely on them."
)


def sheet(
    embeddings: Embeddings,
    clusters: Clusters,
    title: str,
    facts: Sequence[tuple[str, str]] = (),
    seen: Agreement | None = None,
) -> str:
    """A page with a section for each identity, the largest first: its most typical crop, and beside it the others.

    Where people are known, crops of the identity's most frequent person are marked right, others wrong. Of a large
    identity a number of crops is shown, evenly chosen by camera, time and name.

    Args:
        embeddings: N crops.
        clusters: of these.
        title: the heading.
        facts: (name, value) pairs shown below it.
        seen: how well the identities agree with known people, for the summary.
    """
    pictures = Pictures()
    shown = min(clusters.count, SECTIONS)
    rows = np.argsort(clusters.labels, kind="stable")
    ends = np.searchsorted(clusters.labels[rows], np.arange(-1, shown + 1))
    members = [rows[ends[i + 1] : ends[i + 2]] for i in range(shown)]
    sections = [_section(i, embeddings, part, pictures) for i, part in enumerate(members, 1)]
    alone = rows[: ends[1]]
    if len(alone):
        sections.append(_section(len(sections) + 1, embeddings, alone, pictures, alone=True))
    marks = [_mark(embeddings, part) for part in members] + (["unknown"] if len(alone) else [])
    only = "Only identities with more than one person"
    key = f'<p class="key">{_key()}</p>\n' if "right" in marks or "wrong" in marks else ""
    contents = key + (links(marks, "Identities", only) if len(marks) > 1 else "")
    return page(title, _summary(clusters, shown, seen), facts, contents, "\n".join(sections), pictures, note=_NOTE)


def _summary(clusters: Clusters, shown: int, seen: Agreement | None) -> str:
    most = f", the largest {shown:,} shown" if shown < clusters.count else ""
    said = f"{_many(clusters.count, 'identity', 'identities')}{most}; {_many(clusters.alone, 'crop')} alone."
    if seen is None:
        return said
    truth = _many(seen.people, "person", "people")
    return f"{said} In truth {truth}: purity {percent(seen.purity)}, pairwise F {percent(seen.f)}."


def _key() -> str:
    return (
        f"<span>{sign('right')} the identity's most frequent person</span><span>{sign('wrong')} somebody else</span>"
        "<span>times count from the picture at the head of each identity</span>"
    )


def _section(number: int, embeddings: Embeddings, rows: Rows, pictures: Pictures, alone: bool = False) -> str:
    """One identity, or those who are alone."""
    crops = [embeddings.crops[i] for i in rows]
    order = sorted(range(len(crops)), key=lambda i: (crops[i].camera or "", crops[i].time or 0.0, crops[i].path))
    person = None if alone else _most(crops)
    typical = crops[0 if alone else _typical(embeddings, rows)]
    most = ALONE if alone else PICTURES
    chosen = [order[i] for i in np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))]
    cards = "\n".join(_card(crops[i], typical, person, pictures) for i in chosen)
    cameras = {crop.camera for crop in crops if crop.camera is not None}
    lines = [_many(len(crops), "crop") + (f", {len(chosen)} shown" if len(chosen) < len(crops) else "")]
    lines += [_many(len(cameras), "camera")] if cameras else []
    lines += [_whose(crops)] if any(_named(crop) for crop in crops) else []
    heading = "Alone" if alone else f"Identity {number}"
    facts = "".join(f"<p>{text(line)}</p>" for line in lines)
    mark = "unknown" if alone else _mark(embeddings, rows)
    return f"""<section id="q{number}" class="first-{mark}">
<figure class="query" title="{text(typical.path)}">{pictures.show(typical)}
<figcaption><h2>{heading}</h2>{facts}</figcaption></figure>
<ol class="answers" tabindex="0">
{cards}
</ol>
</section>"""


def _card(crop: Crop, typical: Crop, person: str | None, pictures: Pictures) -> str:
    mark: Mark = "unknown" if person is None or not _named(crop) else "right" if crop.pid == person else "wrong"
    return f"""<li class="{mark}"><figure title="{text(crop.path)}">{pictures.show(crop)}
{sign(mark)}<figcaption>{known(crop, typical)}</figcaption></figure></li>"""


def _typical(embeddings: Embeddings, rows: Rows) -> int:
    """The position among the rows of the crop nearest to their mean."""
    vectors = embeddings.vectors[rows]
    return int(np.linalg.norm(vectors - vectors.mean(axis=0), axis=1).argmin())


def _mark(embeddings: Embeddings, rows: Rows) -> Mark:
    """Whether an identity is one person, as far as they are known."""
    people = {embeddings.crops[i].pid for i in rows if _named(embeddings.crops[i])}
    return "unknown" if not people else "right" if len(people) == 1 else "wrong"


def _most(crops: Sequence[Crop]) -> str | None:
    counts = Counter(crop.pid for crop in crops if _named(crop))
    return counts.most_common(1)[0][0] if counts else None


def _whose(crops: Sequence[Crop]) -> str:
    """`person 7`, or `person 7 (12), 3 (2) and 4 more`."""
    counts = Counter(str(crop.pid) for crop in crops if _named(crop)).most_common()
    if len(counts) == 1:
        return f"person {counts[0][0]}"
    more = f" and {len(counts) - 3:,} more" if len(counts) > 3 else ""
    return f"person {', '.join(f'{pid} ({n})' for pid, n in counts[:3])}{more}"


def _named(crop: Crop) -> bool:
    return crop.pid is not None and crop.role == "person"


def _many(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"
