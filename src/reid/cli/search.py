from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, calibration, model_options, name_skipped, page, percent, progress, say
from reid.cli.common_gallery import opened_gallery, recalled
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.embed import Skipped
    from reid.gallery.answers import Per
    from reid.gallery.gallery import Gallery
    from reid.types import Crop, Embeddings, Match

ABOUT = "find where else a person was seen"
EXAMPLE = (
    "reid search photo.jpg crops/\n"
    "  reid search photo.jpg crops.npz -k 20 --html sheet.html\n"
    "  reid search photo.jpg people.db --people"
)

ALONE = "of each pair by its distance alone, as likely as not beforehand; the pictures' quality is not looked at"


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("query", nargs="+", help="one or more pictures, a folder, a list, a CSV or embeddings")
    verb.add_argument("gallery", help="a folder, a list file, a CSV, a file of embeddings or a gallery of `reid index`")
    verb.add_argument("-k", type=int, default=10, help="answers per query (default: 10)")
    verb.add_argument("--other-cameras", action="store_true", help="leave out the camera that saw the query")
    verb.add_argument("--camera", action="append", help="only this camera; may be given several times")
    verb.add_argument("--after", type=float, metavar="SECONDS", help="only crops taken at this time or later")
    verb.add_argument("--before", type=float, metavar="SECONDS", help="only crops taken at this time or earlier")
    verb.add_argument("--people", action="store_true", help="of a gallery, the nearest crop of each person and no more")
    verb.add_argument("--html", type=page, metavar="FILE", help="also write a page with the pictures")
    verb.add_argument("--calibration", metavar="FILE", help="for probabilities; default: the one beside the model")
    verb.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings in the cache folder")
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid import matcher

    gallery = _gallery(args)
    model = Model(args, cached=not args.no_cache)
    skipped: list[Skipped] = []
    with progress("embedding", args) as step:
        query = matcher.gather(args.query if len(args.query) > 1 else args.query[0], model, skipped.append, step)
        rows = None if gallery else matcher.gather(args.gallery, model, skipped.append, step)
    name_skipped(skipped)
    for what, found in (("query", query), ("gallery", rows)):
        if found is not None and not len(found):
            raise DataError(f"none of the pictures of the {what} could be read; the reasons are above")
    started = time.perf_counter()
    answers, size = _answers(args, query, gallery or rows)
    seconds = (model.opened.seconds if model.opened else {}) | {"search": time.perf_counter() - started}
    verifier = calibration(args, query.model)
    if verifier:
        answers = [verifier.filled(q.camera, found) for q, found in zip(query.crops, answers, strict=True)]
    filters = {
        "other_cameras": args.other_cameras,
        "cameras": args.camera,
        "after": args.after,
        "before": args.before,
    }
    facts = [
        ("Model", model.name(query)),
        ("Gallery", many(size, "crop")),
        ("Answers per query", str(args.k)),
    ]
    facts += [("Only", "; ".join(said))] if (said := _said(args)) else []
    facts += [("Probability", f"{ALONE}; {verifier}")] if verifier else []
    answer(query.crops, answers, facts, seconds, args.html, args.json, filters)


def _gallery(args: argparse.Namespace) -> Gallery | None:
    """The gallery that was named by its address, if it was; its model is taken where none was named."""
    from reid.gallery.address import is_address

    if not is_address(args.gallery):
        if args.people:
            raise DataError("--people goes with a gallery, made with `reid index add people.db CROPS`")
        return None
    gallery = opened_gallery(args)
    recalled(gallery, args)
    return gallery


def _answers(
    args: argparse.Namespace, query: Embeddings, gallery: Gallery | Embeddings | None
) -> tuple[list[tuple[Match, ...]], int]:
    """For each query its answers; and how many crops there are in the gallery."""
    from reid import matcher
    from reid.gallery.rows import Where
    from reid.types import Embeddings

    cameras = frozenset(args.camera) if args.camera else None
    if isinstance(gallery, Embeddings):
        only = matcher.Filter(args.other_cameras, cameras, args.after, args.before)
        return list(matcher.search(query, gallery, args.k, only).matches(gallery.crops)), len(gallery)
    assert gallery is not None
    with gallery:
        only_these = Where(cameras=cameras, after=args.after, before=args.before)
        per: Per = "person" if args.people else "crop"
        return gallery.search(query, args.k, only_these, args.other_cameras, per), gallery.count()


def _said(args: argparse.Namespace) -> list[str]:
    """The filters in words."""
    said = ["cameras other than the query's"] if args.other_cameras else []
    said += [f"camera {' or '.join(args.camera)}"] if args.camera else []
    said += [f"from {args.after:g} s"] if args.after is not None else []
    return said + ([f"until {args.before:g} s"] if args.before is not None else [])


def answer(
    queries: Sequence[Crop],
    answers: Sequence[Sequence[Match]],
    facts: Sequence[tuple[str, str]],
    seconds: dict[str, float],
    html: Path | None,
    as_json: bool,
    filters: dict[str, object] | None = None,
) -> None:
    """Print ranked answers, and write the page with the pictures where one was asked for."""
    if html:
        write_sheet(html, queries, answers, facts)
    if as_json:
        pairs = zip(queries, answers, strict=True)
        rows = [{"query": asdict(query), "matches": [asdict(m) for m in found]} for query, found in pairs]
        print(json.dumps({"facts": dict(facts), "filters": filters or {}, "seconds": seconds, "answers": rows}))
        return
    for query, found in zip(queries, answers, strict=True):
        say(*table(query, found))
    if any(match.probability is not None for found in answers for match in found):
        say(f"same: {ALONE}, which `reid verify` does.")
    if html:
        say(f"Page with the pictures: {html.resolve()}")


def write_sheet(
    html: Path, queries: Sequence[Crop], answers: Sequence[Sequence[Match]], facts: Sequence[tuple[str, str]]
) -> None:
    """The page with the pictures."""
    from reid import report
    from reid.disk import replacing

    page = report.sheet(queries, answers, "Where else was this person seen?", facts)
    with replacing(html) as partial:
        partial.write_text(page, encoding="utf-8")


def table(query: Crop, found: Sequence[Match]) -> Iterator[str]:
    """One query's answers as lines of text."""
    yield query.path + "".join(f"  {k} {v}" for k, v in (("person", query.pid), ("camera", query.camera)) if v)
    if not found:
        yield "  no crop of the gallery was allowed as an answer"
    rows = [("rank", "distance", "same", "person", "camera", "time", "crop")]
    for m in found:
        when = "" if m.crop.time is None else f"{m.crop.time:.1f} s"
        same = "" if m.probability is None else percent(m.probability)
        rows.append((str(m.rank), f"{m.distance:.3f}", same, m.crop.pid or "", m.crop.camera or "", when, m.crop.path))
    used = [i for i in range(7) if any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in range(7)]
    for row in rows if found else ():
        cells = [row[i].ljust(widths[i]) if i == 6 else row[i].rjust(widths[i]) for i in used]
        yield "  " + "  ".join(cells).rstrip()
    yield ""
