from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, ending, model_options, name_skipped, progress, say
from reid.errors import DataError
from reid.wording import many, model_named

if TYPE_CHECKING:
    from reid.embed import Skipped
    from reid.identify import Identifier, Identity
    from reid.types import Embeddings

ABOUT = "say which of the people you know a picture shows, or that it shows none of them"
EXAMPLE = (
    "reid identify photo.jpg people/\n"
    "  reid identify people/ --save known.people\n"
    "  reid identify crops.csv known.people --open 0.01 --together tracklet"
)


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("query", nargs="*", help="pictures, a folder, a list, a CSV or embeddings; none to enrol only")
    verb.add_argument(
        "enrolled", help="who is known: a folder for each person, a CSV, embeddings, or a file that --save wrote"
    )
    verb.add_argument("--kind", help="how to tell people apart: mean (the default), nearest, svm or logistic")
    verb.add_argument(
        "--open",
        type=float,
        metavar="FPIR",
        help="the query may show nobody who is known; the share of such queries that may be given a name all the same",
    )
    verb.add_argument(
        "--impostors", metavar="CROPS", help="crops of people who are not enrolled, to learn the threshold from"
    )
    verb.add_argument(
        "--together",
        choices=("crop", "tracklet", "all"),
        default="crop",
        help="what is one query: each crop (default), all crops of a tracklet, or everything given",
    )
    verb.add_argument("-k", type=int, default=3, help="people an answer names at most (default: 3)")
    verb.add_argument("--save", type=_people, metavar="FILE.people", help="keep who is enrolled, to ask again later")
    verb.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings in the cache folder")
    model_options(verb)


def _people(name: str) -> Path:
    """A file name that --save may write."""
    from reid.identify.stored import SUFFIX

    return ending(SUFFIX)(name)


def run(args: argparse.Namespace) -> None:
    from reid import matcher

    if args.impostors and args.open is None and not args.save:
        raise DataError("--impostors is what --open learns its threshold from; give --open too, or leave it out")
    if not args.query and not args.save:
        raise DataError("only one thing was given; give pictures and who is known, or --save to enrol people for later")
    model = Model(args, cached=not args.no_cache)
    skipped: list[Skipped] = []
    with progress("embedding", args) as step:
        made = _enrolled(args, model, skipped, step)
        query = None
        if args.query:
            source = args.query if len(args.query) > 1 else args.query[0]
            query = matcher.gather(source, model, skipped.append, step)
    name_skipped(skipped)
    if args.save:
        made.save(args.save)
    if query is None:
        if args.json:
            print(json.dumps(_facts(made, args)))
        else:
            say(f"Wrote {args.save}: {_said(made)}.")
        return
    if not len(query):
        raise DataError("none of the pictures of the query could be read; the reasons are above")
    if args.together == "tracklet" and not any(crop.tracklet for crop in query.crops):
        raise DataError("no crop of the query names its tracklet; give the column tracklet, or leave --together out")
    answers = made.identify(query, args.open, args.together, args.k)
    if args.json:
        rows = [{"crops": [asdict(query.crops[i]) for i in a.rows]} | _row(a) for a in answers]
        print(json.dumps(_facts(made, args) | {"answers": rows}))
    else:
        say(*_lines(query, answers), *_notes(made, query, answers))


def _enrolled(args: argparse.Namespace, model: Model, skipped: list[Skipped], step: object) -> Identifier:
    """Who is known: read from a file that --save wrote, or enrolled from crops."""
    from reid import matcher
    from reid.identify import Identifier
    from reid.identify.stored import SUFFIX

    if args.enrolled.lower().endswith(SUFFIX):
        given = [name for name in ("kind", "impostors", "save") if getattr(args, name) is not None]
        if given:
            raise DataError(f"--{given[0]} is about enrolling, and {args.enrolled} is enrolled already; give its crops")
        return Identifier.load(args.enrolled)
    made = Identifier(args.kind) if args.kind else Identifier()
    enrolled = matcher.gather(args.enrolled, model, skipped.append, step)  # type: ignore[arg-type]
    impostors = matcher.gather(args.impostors, model, skipped.append, step) if args.impostors else None  # type: ignore[arg-type]
    return made.fit(enrolled, impostors)


def _facts(made: Identifier, args: argparse.Namespace) -> dict[str, object]:
    return {
        "kind": made.kind,
        "model": made.model_,
        "people": len(made.people_),
        "open": args.open,
        "saved": str(args.save) if args.save else None,
    }


def _row(answer: Identity) -> dict[str, object]:
    return {
        "person": answer.pid,
        "enrolled": answer.enrolled,
        "threshold": answer.threshold._asdict() if answer.threshold else None,
        "candidates": [asdict(c) for c in answer.candidates],
    }


def _said(made: Identifier) -> str:
    return f"{many(len(made.people_), 'person', 'people')} by {made.kind}, embedded by model {model_named(made.model_)}"


def _lines(query: Embeddings, answers: Sequence[Identity]) -> Iterator[str]:
    """A line for each query: what was asked, who it is, how sure, and who else it might be."""
    for answer in answers:
        first = query.crops[answer.rows[0]]
        more = f" and {len(answer.rows) - 1:,} more" if len(answer.rows) > 1 else ""
        named = [f"{c.pid}{_percent(c.probability)}" for c in answer.candidates]
        if answer.threshold:
            named[0] += f" at {answer.candidates[0].distance:.3f}"
        if answer.pid is None:
            known = _percent(None if answer.enrolled is None else 1 - answer.enrolled)
            who = f"nobody who is enrolled{known}; nearest: {', '.join(named)}"
        else:
            who = named[0] + (f"; or {', '.join(named[1:])}" if named[1:] else "")
        yield f"{first.path}{more}: {who}"


def _percent(probability: float | None) -> str:
    """Whole per cent in brackets, never rounded to certainty; nothing where no probability is known."""
    if probability is None:
        return ""
    if 0.01 <= probability <= 0.99:
        return f" ({100 * probability:.0f} %)"
    return " (> 99 %)" if probability > 0.5 else " (< 1 %)"


def _notes(made: Identifier, query: Embeddings, answers: Sequence[Identity]) -> Iterator[str]:
    """What the threshold can promise, and how many answers are right where the queries name their people."""
    limits = [limit for limit in dict.fromkeys(a.threshold for a in answers) if limit]
    if not limits:
        yield (
            f"Each is taken for one of the {len(made.people_):,} who are enrolled, the nearest; --open 0.01 lets it be "
            "nobody."
        )
    for limit in limits:
        yield f"The threshold is a distance of {limit.distance:.3f}" + (
            f"; {limit.reached:.1%} of strangers are expected to be nearer."
            if limit.reached
            else f", just below the nearest stranger: a rate of {limit.asked:g} cannot be shown with so few strangers. "
            "Enrol more people, or give --impostors."
        )
    if any(c.probability is None for a in answers[:1] for c in a.candidates):
        if made.calibrations_:
            yield "No probabilities: they are learnt from people of whom some crops can be left out and others kept."
        else:
            yield "No probabilities: too few people are enrolled to leave one out as a stranger; enrol three or more."
    elif any(crop.camera is not None for crop in query.crops) and (made.across_ or 0) < 0.5:
        known = "Most people are enrolled from one camera"
        if made.across_ is None:
            known = "No camera is known of those who are enrolled; if each was seen by one only"
        yield f"{known}: thresholds and probabilities were learnt within it, and are too sure for pictures of another."
    judged = [
        (a.pid, query.crops[a.rows[0]].pid)
        for a in answers
        if query.crops[a.rows[0]].pid in made.people_ or (limits and query.crops[a.rows[0]].pid)
    ]
    if judged:
        right = sum(said == (truth if truth in made.people_ else None) for said, truth in judged)
        yield f"Right for {right:,} of {many(len(judged), 'query', 'queries')} whose person is named."
