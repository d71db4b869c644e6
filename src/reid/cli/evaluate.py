from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, metrics, model_options, name_skipped, progress

if TYPE_CHECKING:
    from reid.embed import Skipped
    from reid.types import Embeddings

ABOUT = "measure how well a model ranks, by a named protocol"
EXAMPLE = (
    "reid evaluate market1501:Market-1501/ --model run/best.onnx\n"
    "  reid evaluate crops/ --hold-out 100\n"
    "  reid evaluate query.npz gallery.npz --intervals --rerank"
)


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", help="a data set with queries and a gallery, labelled crops, or the queries alone")
    verb.add_argument("gallery", nargs="?", help="the gallery, where the first argument holds the queries alone")
    verb.add_argument(
        "--hold-out", type=int, metavar="PEOPLE", help="use only the last so many people, in sorted order"
    )
    verb.add_argument("--protocol", default="market1501", help="market1501 (default), cross-camera or diagonal")
    verb.add_argument("--intervals", action="store_true", help="95 %% confidence intervals, by bootstrap over people")
    verb.add_argument("--rerank", action="store_true", help="re-rank with k-reciprocal neighbours (20, 6, 0.3)")
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid.evaluation import evaluate
    from reid.rerank import KReciprocal

    model = Model(args)
    skipped: list[Skipped] = []
    with progress("embedding", args) as step:
        query, gallery = _sets(args, model, skipped, step)
    name_skipped(skipped)
    settings = KReciprocal() if args.rerank else None
    report = evaluate(query, gallery, args.protocol, intervals=args.intervals, reranking=settings)
    print(report.to_json() if args.json else "\n".join(metrics(report, model.name(query))))


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
