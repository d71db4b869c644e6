from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, embedded, metrics, model_options, name_skipped, page, progress, say
from reid.cli.common_gallery import shown
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.embed import Skipped
    from reid.evaluation import Distances, Outcomes
    from reid.rerank import KReciprocal
    from reid.roc import OpenSet, Verification
    from reid.spacetime import TransitionPrior
    from reid.types import Crop, Report

ABOUT = "measure how well a model ranks, by a named protocol"
EXAMPLE = (
    "reid evaluate market1501:Market-1501/ --model run/best.onnx\n"
    "  reid evaluate crops/ --hold-out 100 --html report.html\n"
    "  reid evaluate query.npz gallery.npz --intervals --rerank\n"
    "  reid evaluate market1501:Market-1501/ --distances theirs.npy\n"
    "  reid evaluate market1501:Market-1501/ --prior prior.json --rerank"
)
NEEDS = (
    ("alone", ("rerank",), "how to re-rank"),
    ("similarity", ("distances",), "what the numbers of a matrix are"),
    ("array", ("distances", "ranking"), "which array of a file to take"),
)
KEPT = 1 << 30  # bytes of distances that are kept rather than computed again for each part of a report


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", help="a data set with queries and a gallery, labelled crops, or the queries alone")
    verb.add_argument("gallery", nargs="?", help="the gallery, where the first argument holds the queries alone")
    verb.add_argument("--hold-out", type=int, metavar="PEOPLE", help="only the last so many people, in sorted order")
    verb.add_argument("--protocol", default="market1501", help="market1501 (default), cuhk03, cross-camera or diagonal")
    verb.add_argument(
        "--ranks", type=int, nargs="+", default=[1, 5, 10], metavar="K", help="of the CMC (default: 1 5 10)"
    )
    verb.add_argument("--tracklets", action="store_true", help="one vector a tracklet, the mean of its crops' (MARS)")
    verb.add_argument(
        "--halves", type=int, metavar="DRAWS", help="random halves of the people, each used both ways (VIPeR: 10)"
    )
    verb.add_argument("--intervals", action="store_true", help="95 %% confidence intervals, by bootstrap over people")
    verb.add_argument("--rerank", action="store_true", help="re-rank with k-reciprocal neighbours (20, 6, 0.3)")
    verb.add_argument("--alone", action="store_true", help="re-rank each query as if it were the only one")
    verb.add_argument("--prior", type=Path, metavar="FILE", help="also go by when and where, as `reid prior` learnt it")
    verb.add_argument("--pairs", action="store_true", help="also verification (EER, TPR at FPR) and open-set figures")
    verb.add_argument("--html", type=page, metavar="FILE", help="also write a page with curves, cameras, worst queries")
    verb.add_argument(
        "--distances", type=Path, metavar="FILE", help="somebody's (queries, gallery) matrix: .npy .npz .h5 .mat"
    )
    verb.add_argument("--array", metavar="NAME", help="which array of that file, where it has several")
    verb.add_argument("--similarity", action="store_true", help="its numbers are similarities: higher is closer")
    verb.add_argument(
        "--ranking", type=Path, metavar="FILE", help="somebody's ranked lists instead: (queries, k) gallery rows from 0"
    )
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid import evaluation

    given = args.distances or args.ranking
    if given and (args.rerank or args.prior or args.model or (args.distances and args.ranking)):
        raise DataError(
            "give one of --distances, --ranking or --model; only embeddings can be re-ranked or take a prior"
        )
    if given and args.tracklets:
        raise DataError("--tracklets takes means of embeddings; give those, not distances or ranked lists")
    for option, others, about in NEEDS:
        if getattr(args, option) and not any(getattr(args, other) for other in others):
            raise DataError(f"--{option} says {about}; give {' or '.join(f'--{o}' for o in others)} as well")
    facts = [("Source", args.source)]
    if args.halves is not None:
        _halves(args, facts)
        return
    settings, prior = _settings(args)
    if given:
        query, gallery = _crops(args)
        found = _foreign(args, query, gallery, facts)
    else:
        model = Model(args)
        skipped: list[Skipped] = []
        with progress("embedding", args) as step:
            queries, rows = embedded(args.source, args.gallery, args.hold_out, model, skipped.append, step)
        name_skipped(skipped)
        if args.tracklets:
            if all(crop.tracklet is None for crop in (*queries.crops, *rows.crops)):
                raise DataError(
                    "--tracklets makes one vector of a tracklet, and no crop is in one; give a table with a column "
                    "tracklet, or leave --tracklets out"
                )
            queries, rows = map(evaluation.pool_tracklets, (queries, rows))
        query, gallery = queries.crops, rows.crops
        found = evaluation.distances(queries, rows, settings, prior=prior)
        facts.append(("Model", model.name(queries)))
    if args.pairs or args.html or args.json:
        found = _kept(found, 4 * len(query) * len(gallery))
    sets = query, gallery, args.protocol
    outcomes = evaluation.outcomes(found(), *sets, max(args.ranks))
    intervals = args.intervals or args.html is not None
    report = evaluation.summary(outcomes, gallery, args.protocol, args.ranks, intervals)
    report = replace(report, reranking=evaluation.changes(query, settings, prior))
    _warn(args, report, query, prior)
    verified, unseen = None, list[str]()
    if args.pairs or (args.html and not args.ranking):  # a place in a list is no distance
        from reid import roc

        verified = roc.verification(found(), *sets, intervals=args.pairs and args.intervals and bool(report.intervals))
    if args.pairs and verified:
        report, unseen = _with_pairs(report, verified, roc.open_set(found(), *sets))
    compare = _comparable(args, report, query, gallery)
    if args.html:
        _page(args, found, sets, report, outcomes, verified, facts, compare)
    if args.json:
        parts = _parts(found, sets, outcomes)
        print(json.dumps(asdict(report) | {"comparable_with": compare} | _origin(args, facts) | parts, indent=2))
    else:
        few = [f"too few pairs or searches to show {', '.join(unseen)}"] if unseen else []
        say(*metrics(report, facts[-1][1]), *_drawn(report), *few, f"comparable with {compare}")


def _halves(args: argparse.Namespace, facts: list[tuple[str, str]]) -> None:
    """VIPeR's test, of all crops."""
    from reid import evaluation, matcher

    others = (
        "gallery",
        "hold_out",
        "rerank",
        "prior",
        "pairs",
        "html",
        "distances",
        "ranking",
        "tracklets",
        "intervals",
    )
    if given := [f"--{name.replace('_', '-')}" for name in others if getattr(args, name)]:
        raise DataError(f"--halves measures one set of crops in a way of its own; leave out {', '.join(given)}")
    model = Model(args)
    skipped: list[Skipped] = []
    with progress("embedding", args) as step:
        made = matcher.gather(args.source, model, skipped.append, step)
    name_skipped(skipped)
    report = evaluation.evaluate_halves(made, args.halves, args.protocol, args.ranks)
    facts.append(("Model", model.name(made)))
    if args.json:
        print(json.dumps(asdict(report) | _origin(args, facts) | {"halves": args.halves}, indent=2))
    else:
        say(*metrics(report, facts[-1][1]), f"means over {2 * args.halves} halves of the people")


def _drawn(report: Report) -> list[str]:
    """What intervals rest on."""
    return [f"intervals by bootstrap over {many(report.people, 'person', 'people')}"] if report.intervals else []


def _comparable(args: argparse.Namespace, report: Report, query: Sequence[Crop], gallery: Sequence[Crop]) -> str:
    """With whose figures these can be compared; published ones are of a data set's own split."""
    from reid.evaluation import PROTOCOLS

    people = [crop for crop in (*query, *gallery) if crop.role == "person"]
    reasons = {
        "vectors are means of tracklets": args.tracklets,
        "reid chose the queries": not args.gallery and query[0].extra.get("split") != "query",
        "queries are in the gallery too": not {c.path for c in query}.isdisjoint(c.path for c in gallery),
        "cameras are unknown, and matches within one camera may count": not all(crop.camera for crop in people),
        "one person alone is searched for": report.people < 2,
    }
    with_what, why = PROTOCOLS[report.protocol].compare, [reason for reason, so in reasons.items() if so]
    if args.hold_out:
        with_what = "figures of the same people, held out of the same data, only"
    elif why and not with_what.startswith("itself only"):
        with_what = f"itself only: {why[0]}"
    return f"{with_what}; re-ranked ones only" if report.reranking else with_what


def _with_pairs(report: Report, verified: Verification, opened: OpenSet) -> tuple[Report, list[str]]:
    """The report with their figures, and the names of those that so few pairs or searches cannot show."""
    rates = {f"TPR@FPR={p.asked:g}": p.fpr for p in verified.at}
    rates |= {f"FNIR@FPIR={a.asked:g}": a.fpir for a in opened.at}
    missed = {f"FNIR@FPIR={a.asked:g}": a.fnir for a in opened.at}
    unseen = [name for name, rate in rates.items() if not rate]
    figures = {n: v for n, v in {**report.metrics, **verified.table(), **missed}.items() if n not in unseen}
    intervals = {n: v for n, v in {**report.intervals, **verified.intervals}.items() if n not in unseen}
    return replace(report, metrics=figures, intervals=intervals), unseen


def _settings(args: argparse.Namespace) -> tuple[KReciprocal | None, TransitionPrior | None]:
    settings = prior = None
    if args.rerank:
        from reid.rerank import KReciprocal

        settings = KReciprocal(alone=args.alone)
    if args.prior:
        from reid.spacetime import TransitionPrior

        prior = TransitionPrior.load(args.prior)
    return settings, prior


def _kept(found: Callable[[], Distances], size: int) -> Callable[[], Distances]:
    """The same distances, computed once where they are few enough to be kept."""
    import numpy as np

    first = found()
    if size > KEPT or isinstance(first, np.ndarray):
        return found
    matrix = np.concatenate([block.copy() for _, block in first])  # one is gone when the next comes
    return lambda: matrix


def _warn(args: argparse.Namespace, report: Report, query: Sequence[Crop], prior: TransitionPrior | None) -> None:
    """What takes something away from the figures."""
    from reid.evaluation import FEWEST_PEOPLE

    if not any(crop.camera for crop in query):
        print("no camera is known, so matches within one camera count, which are far easier to find", file=sys.stderr)
    if args.intervals and not report.intervals:
        people = many(report.people, "person", "people")
        few = f"fewer than {FEWEST_PEOPLE}, drawn again and again, say little of others"
        print(f"no intervals: the queries show {people}, and {few}", file=sys.stderr)
    if prior and prior.learnt_from & {crop.pid for crop in query}:
        print(
            "the prior has learnt from people who are searched for; learn it without them: --hold-out", file=sys.stderr
        )


def _origin(args: argparse.Namespace, facts: Sequence[tuple[str, str]]) -> dict[str, object]:
    """Where figures come from, for --json."""
    said = {
        "source": shown(args.source),
        "gallery_source": args.gallery and shown(args.gallery),
        "hold_out": args.hold_out,
        "model": dict(facts).get("Model"),
        "distances": args.distances,
        "ranking": args.ranking,
        "prior": args.prior,
    }
    return {name: value if isinstance(value, int) else str(value) for name, value in said.items() if value is not None}


def _parts(
    found: Callable[[], Distances], sets: tuple[Sequence[Crop], Sequence[Crop], str], outcomes: Outcomes
) -> dict[str, object]:
    """For --json, as on the page: each camera's queries in each camera's gallery rows, and the people found worst."""
    from reid.breakdown import camera_pairs
    from reid.evaluation_charts import by_person
    from reid.evaluation_page import WORST_PEOPLE

    cells, people, query = camera_pairs(found(), *sets), by_person(outcomes), sets[0]
    pairs = [
        {"query": one, "gallery": other, "queries": count, "mAP": mean_ap, "rank-1": rank1}
        for one, *rows in zip(
            cells.query_cameras, cells.queries.tolist(), cells.mean_ap.tolist(), cells.rank1.tolist(), strict=True
        )
        for other, count, mean_ap, rank1 in zip(cells.gallery_cameras, *rows, strict=True)
        if count
    ]
    order = sorted(range(len(people.rows)), key=people.mean.__getitem__)[:WORST_PEOPLE]
    worst = [
        {
            "person": query[outcomes.counted[people.rows[p][0]]].pid,
            "queries": len(people.rows[p]),
            "mAP": float(people.mean[p]),
        }
        for p in order
    ]
    return {"camera_pairs": pairs, "worst_people": worst}


def _foreign(
    args: argparse.Namespace, query: Sequence[Crop], gallery: Sequence[Crop], facts: list[tuple[str, str]]
) -> Callable[[], Distances]:
    """Distances from somebody's matrix or ranked lists; a fresh pass over them on each call."""
    from reid import foreign

    if args.distances:
        matrix = foreign.read_matrix(args.distances, args.array, args.similarity)
        facts.append(("Distances", str(args.distances)))
        return lambda: matrix
    ranking = foreign.read_ranking(args.ranking, len(query), len(gallery), args.array)
    said = str(foreign.coverage(ranking, query, gallery, args.protocol))
    facts += [("Ranked lists", said), ("Lists", str(args.ranking))]
    say(said, error=True)
    return lambda: foreign.ranking_blocks(ranking, len(gallery))


def _page(
    args: argparse.Namespace,
    found: Callable[[], Distances],
    sets: tuple[Sequence[Crop], Sequence[Crop], str],
    report: Report,
    outcomes: Outcomes,
    verified: Verification | None,
    facts: list[tuple[str, str]],
    compare: str,
) -> None:
    """Curves, histograms, cameras, people and queries that went worst, as one HTML file."""
    from reid import breakdown, evaluation_page
    from reid.disk import replacing
    from reid.evaluation_charts import Roc
    from reid.evaluation_page import Details

    curve = Roc.of(verified) if verified and not args.ranking else None
    details = Details(
        breakdown.camera_pairs(found(), *sets),
        curve,
        breakdown.spread(found(), *sets),
        breakdown.nearest(found(), *sets),
        compare,
    )
    text = evaluation_page.page("How well does it rank?", report, outcomes, *sets[:2], facts, details)
    with replacing(args.html) as partial:
        partial.write_text(text, encoding="utf-8")


def _crops(args: argparse.Namespace) -> tuple[Sequence[Crop], Sequence[Crop]]:
    """The queries and the gallery that foreign results are about, in the order that reid reads them."""
    from reid import data
    from reid.evaluation import query_and_gallery

    if args.gallery:
        return data.read(args.source), data.read(args.gallery)
    return query_and_gallery(data.read(args.source), args.hold_out)
