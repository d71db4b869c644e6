from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, ending, model_options, name_skipped, progress, say
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reid.embed import Skipped
    from reid.spacetime import TransitionPrior
    from reid.types import Crop, Embeddings

ABOUT = "learn how long people take from camera to camera, as evidence beside their looks"
EXAMPLE = (
    "reid prior market1501:Market-1501/ -o prior.json\n"
    "  reid prior crops.csv -o prior.json --hold-out 100 --plot prior.svg\n"
    "  reid evaluate crops.csv --hold-out 100 --prior prior.json --rerank"
)
MOST_FITTED = 100


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "source", help="crops that name person, camera and time: a data set, a CSV, or embeddings of such"
    )
    verb.add_argument("-o", "--output", type=ending(".json"), required=True, metavar="FILE", help="the prior, as JSON")
    verb.add_argument(
        "--hold-out", type=int, default=0, metavar="PEOPLE", help="leave out the last so many people, in sorted order"
    )
    verb.add_argument(
        "--fit-on",
        type=int,
        metavar="PEOPLE",
        help=f"how many of the others the weight is fitted on; by default a quarter of them, {MOST_FITTED} at most",
    )
    verb.add_argument("--plot", type=ending(".svg"), metavar="FILE", help="also draw what was learnt")
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid.evaluation import evaluate, hold_out
    from reid.spacetime import TransitionPrior

    crops, vectors = _read(args)
    learnt, *_ = hold_out(crops, args.hold_out)
    people = len({crop.pid for crop in learnt})
    fit_on = args.fit_on if args.fit_on is not None else min(MOST_FITTED, people // 4)
    if not 0 < fit_on < people:
        raise DataError(
            f"the weight is to be fitted on {fit_on} of {people} people; that takes at least one, and others to learn "
            "from"
        )
    partly, *fitted = hold_out(learnt, fit_on)
    without, prior = TransitionPrior.fit(partly), TransitionPrior.fit(learnt)
    query, gallery = _embedded(args, fitted, vectors)
    found = without.weighted(query, gallery, "squared")
    prior = replace(prior, weight=found.weight, model=found.model, metric=found.metric)
    prior.save(args.output)
    if args.plot:
        _draw(prior, args.plot)
    before = evaluate(query, gallery).metrics["mAP"]
    after = evaluate(query, gallery, prior=found).metrics["mAP"]
    if args.json:
        print(_json(args, prior, fit_on, before, after))
    else:
        say(*_said(args, prior, fit_on, before, after))


def _read(args: argparse.Namespace) -> tuple[Sequence[Crop], Embeddings | None]:
    """The crops to learn from, and their vectors where the source has them.

    Of a data set with splits only the training crops: a prior must not learn from those who are searched for.
    """
    from reid import data, files
    from reid.data import splits

    made = files.load(args.source) if Path(args.source).is_file() and files.is_embeddings(args.source) else None
    crops = made.crops if made else data.read(args.source)
    there = splits.names(crops)
    if there and "train" not in there:
        raise DataError(
            f"{args.source} holds {', '.join(there)} and nothing to train on; a prior must not learn from "
            "people who will be searched for"
        )
    return [crop for crop in crops if not there or crop.extra.get("split") == "train"], made


def _embedded(
    args: argparse.Namespace, parts: Sequence[Sequence[Crop]], vectors: Embeddings | None
) -> tuple[Embeddings, Embeddings]:
    """Queries and gallery of the people the weight is fitted on, with vectors."""
    if vectors is not None:
        row = {crop.path: i for i, crop in enumerate(vectors.crops)}
        query, gallery = (vectors[[row[crop.path] for crop in part]] for part in parts)
        return query, gallery
    model = Model(args)
    skipped: list[Skipped] = []
    with progress("embedding", args, sum(map(len, parts))) as step:
        query, gallery = (model()(part, step, skipped.append) for part in parts)
    name_skipped(skipped)
    return query, gallery


def _draw(prior: TransitionPrior, path: Path) -> None:
    from reid.disk import replacing
    from reid.spacetime import plot

    with replacing(path) as partial:
        partial.write_text(plot.svg(prior), encoding="utf-8")


def _pairs(prior: TransitionPrior) -> int:
    return int((prior.people > 0).sum()) // 2


def _json(args: argparse.Namespace, prior: TransitionPrior, fit_on: int, before: float, after: float) -> str:
    return json.dumps(
        {
            "output": str(args.output),
            "plot": str(args.plot) if args.plot else None,
            "people": len(prior.learnt_from),
            "cameras": list(prior.cameras),
            "camera_pairs": _pairs(prior),
            "weight": prior.weight,
            "metric": prior.metric,
            "model": prior.model,
            "fitted_on": {"people": fit_on, "mAP": before, "mAP_with_prior": after},
        },
        indent=2,
    )


def _said(args: argparse.Namespace, prior: TransitionPrior, fit_on: int, before: float, after: float) -> list[str]:
    who, learnt = many(fit_on, "person", "people"), many(len(prior.learnt_from), "person", "people")
    lines = [
        f"Wrote {args.output}: {learnt}, {many(len(prior.cameras), 'camera')}, {many(_pairs(prior), 'pair')} "
        "of cameras with people in common.",
        f"Weight {prior.weight:.3g}, fitted on {who} that the prior had not seen by then: mAP {100 * before:.1f} % by "
        f"looks, {100 * after:.1f} % with the prior.",
    ]
    if not prior.weight:
        lines.append("A weight of 0 leaves distances as they are: times helped none of these people to be found.")
    if args.plot:
        lines.append(f"Drew {args.plot}.")
    return lines
