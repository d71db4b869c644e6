from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, metrics, model_options, name_skipped, page, progress
from reid.errors import DataError

if TYPE_CHECKING:
    from reid.embed import Skipped
    from reid.evaluation import Distances
    from reid.types import Crop, Embeddings, Report

ABOUT = "measure how well a model ranks, by a named protocol"
EXAMPLE = (
    "reid evaluate market1501:Market-1501/ --model run/best.onnx\n"
    "  reid evaluate crops/ --hold-out 100 --html report.html\n"
    "  reid evaluate query.npz gallery.npz --intervals --rerank\n"
    "  reid evaluate market1501:Market-1501/ --distances theirs.npy"
)


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", help="a data set with queries and a gallery, labelled crops, or the queries alone")
    verb.add_argument("gallery", nargs="?", help="the gallery, where the first argument holds the queries alone")
    verb.add_argument("--hold-out", type=int, metavar="PEOPLE", help="only the last so many people, in sorted order")
    verb.add_argument("--protocol", default="market1501", help="market1501 (default), cuhk03, cross-camera or diagonal")
    verb.add_argument("--intervals", action="store_true", help="95 %% confidence intervals, by bootstrap over people")
    verb.add_argument("--rerank", action="store_true", help="re-rank with k-reciprocal neighbours (20, 6, 0.3)")
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
    if given and (args.rerank or args.model or (args.distances and args.ranking)):
        raise DataError("give one of --distances, --ranking or --model; only embeddings can be re-ranked")
    found: Callable[[], evaluation.Distances]
    facts = [("Source", args.source)]
    settings = None
    if args.rerank:
        from reid.rerank import KReciprocal

        settings = KReciprocal()
    if given:
        query, gallery = _crops(args)
        found = _foreign(args, query, gallery, facts)
    else:
        model = Model(args)
        skipped: list[Skipped] = []
        with progress("embedding", args) as step:
            queries, rows = _sets(args, model, skipped, step)
        name_skipped(skipped)
        query, gallery, found = queries.crops, rows.crops, evaluation.distances(queries, rows, settings)
        facts.append(("Model", model.name(queries)))
    sets = query, gallery, args.protocol
    report = evaluation.evaluate_distances(found(), *sets, intervals=args.intervals or args.html is not None)
    report = replace(report, reranking=str(settings)) if settings else report
    if not any(crop.camera for crop in query):
        print("no camera is known, so matches within one camera count, which are far easier to find", file=sys.stderr)
    if args.pairs:
        from reid import roc

        verified = roc.verification(found(), *sets, intervals=args.intervals)
        opened = {f"FNIR@FPIR={a.asked:g}": a.fnir for a in roc.open_set(found(), *sets).at}
        figures = {**report.metrics, **verified.table(), **opened}
        report = replace(report, metrics=figures, intervals={**report.intervals, **verified.intervals})
    if args.html:
        _page(args, found, query, gallery, report, facts)
    print(report.to_json() if args.json else "\n".join(metrics(report, facts[-1][1])))


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
    print(said, file=sys.stderr)
    return lambda: foreign.ranking_blocks(ranking, len(gallery))


def _page(
    args: argparse.Namespace,
    found: Callable[[], Distances],
    query: Sequence[Crop],
    gallery: Sequence[Crop],
    report: Report,
    facts: list[tuple[str, str]],
) -> None:
    """Curves, histograms, cameras, people and queries that went worst, as one HTML file."""
    from reid import breakdown, evaluation, evaluation_page, roc
    from reid.disk import replacing
    from reid.evaluation_page import Details, Roc

    sets = query, gallery, args.protocol
    curve = None
    if not args.ranking:  # a place in a list is no distance
        v = roc.verification(found(), *sets)
        about = f"{v.positives:,} pairs of one person, {v.negatives:,} pairs of two; each person weighs the same."
        points = [(p.asked, p.tpr, p.threshold) for p in v.at if p.fpr]
        curve = Roc(v.fpr, v.tpr, v.thresholds, v.eer, v.eer_threshold, points, about)
    details = Details(
        breakdown.camera_pairs(found(), *sets),
        curve,
        breakdown.spread(found(), *sets),
        breakdown.nearest(found(), *sets),
    )
    text = evaluation_page.page(
        "How well does it rank?", report, evaluation.outcomes(found(), *sets), query, gallery, facts, details
    )
    with replacing(args.html) as partial:
        partial.write_text(text, encoding="utf-8")


def _crops(args: argparse.Namespace) -> tuple[Sequence[Crop], Sequence[Crop]]:
    """The queries and the gallery that foreign results are about, in the order that reid reads them."""
    from reid import data
    from reid.evaluation import query_and_gallery

    if args.gallery:
        return data.read(args.source), data.read(args.gallery)
    return query_and_gallery(data.read(args.source), args.hold_out)


def _sets(
    args: argparse.Namespace, model: Model, skipped: list[Skipped], step: Callable[[int], None]
) -> tuple[Embeddings, Embeddings]:
    """The queries and the gallery, embedded where they are not yet; of a data set only the crops that are needed."""
    from reid import data, files, matcher
    from reid.evaluation import query_and_gallery

    if args.gallery:
        query, gallery = (matcher.gather(s, model, skipped.append, step) for s in (args.source, args.gallery))
        return query, gallery
    if Path(args.source).is_file() and files.is_embeddings(args.source):
        made = files.load(args.source)
        row = {crop.path: i for i, crop in enumerate(made.crops)}
        query, gallery = (made[[row[c.path] for c in part]] for part in query_and_gallery(made.crops, args.hold_out))
        return query, gallery
    parts = query_and_gallery(data.read(args.source), args.hold_out)
    query, gallery = (model()(part, step, skipped.append) for part in parts)
    return query, gallery
