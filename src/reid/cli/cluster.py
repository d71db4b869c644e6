from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import Model, apart, crops_table, model_options, name_skipped, page, progress, say
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.cluster import Agreement, Clusters
    from reid.embed import Skipped
    from reid.types import Embeddings

ABOUT = "sort crops without names into identities, and say how many people there are"
EXAMPLE = (
    "reid cluster crops/ -o identities.csv --html sheet.html\n"
    "  reid cluster tracks.csv -o identities.csv --cannot-link strict"
)


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("source", nargs="+", help="pictures, a folder, a list, a CSV or embeddings")
    verb.add_argument(
        "-o",
        "--output",
        type=crops_table,
        metavar="FILE.csv",
        help="a table of the crops with the identities as people",
    )
    verb.add_argument("--html", type=page, metavar="FILE", help="also write a page with the pictures of each identity")
    verb.add_argument(
        "--method", default="linkage", help="linkage (average linkage, the default) or dbscan, both constrained"
    )
    verb.add_argument(
        "--within", type=float, metavar="DISTANCE", help="largest Jaccard distance of one person's crops, below 1"
    )
    verb.add_argument(
        "--k1",
        type=int,
        metavar="N",
        help="neighbours compared, as many as a person has crops or tracklets, and fewer than there are (default: what "
        "sets people apart best)",
    )
    verb.add_argument(
        "--cannot-link",
        default="unless-alike",
        metavar="RULE",
        help="two crops of one camera at one time are two people: strict; unless-alike (default), for detectors that "
        "find a person twice; or off",
    )
    verb.add_argument("--prior", metavar="FILE", help="also go by when and where: a prior that `reid prior` wrote")
    verb.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings in the cache folder")
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid import matcher
    from reid.cluster import agreement, cluster
    from reid.spacetime import TransitionPrior

    if args.output:
        apart(args.output, args.source)
    prior = TransitionPrior.load(args.prior) if args.prior else None
    model = Model(args, cached=not args.no_cache)
    skipped: list[Skipped] = []
    with progress("embedding", args) as step:
        source = args.source if len(args.source) > 1 else args.source[0]
        made = matcher.gather(source, model, skipped.append, step)
    name_skipped(skipped)
    if not len(made):
        raise DataError("none of the pictures could be read; the reasons are above")
    found = cluster(made, args.method, args.within, args.k1, args.cannot_link, prior)
    named = any(c.pid is not None and c.role == "person" for c in made.crops)
    seen = agreement(found.labels, made.crops) if named else None
    if args.output:
        _write(args.output, made, found)
    if args.html:
        _draw(args.html, made, found, seen, model.name(made))
    if args.json:
        print(_json(args, made, found, seen))
    else:
        say(*_said(args, made, found, seen))


def _write(path: Path, made: Embeddings, found: Clusters) -> None:
    """The crops with identities as people; who they were said to be at first is kept in the column `known_as`."""
    from reid.data import table

    crops = []
    for crop, label in zip(made.crops, found.labels.tolist(), strict=True):
        extra = ({"known_as": crop.pid} if crop.pid is not None else {}) | dict(crop.extra)
        crops.append(replace(crop, pid=None if label < 0 else f"i{label + 1:04}", extra=extra))
    table.write(path, crops)


def _draw(html: Path, made: Embeddings, found: Clusters, seen: Agreement | None, model: str) -> None:
    from reid.cluster.page import sheet
    from reid.disk import replacing

    facts = [("Model", model), ("Crops", f"{len(made):,}"), ("Method", f"{found.method} within {found.within:g}")]
    with replacing(html) as partial:
        partial.write_text(sheet(made, found, "How many people are there?", facts, seen), encoding="utf-8")


def _json(args: argparse.Namespace, made: Embeddings, found: Clusters, seen: Agreement | None) -> str:
    settings = {
        name: getattr(found, name)
        for name in ("method", "within", "k1", "silhouette", "points", "apart", "count", "alone")
    }
    pairs = zip(made.crops, found.labels.tolist(), strict=True)
    return json.dumps(
        settings
        | {
            "output": str(args.output) if args.output else None,
            "agreement": asdict(seen) if seen else None,
            "crops": [{"path": crop.path, "identity": None if label < 0 else label + 1} for crop, label in pairs],
        }
    )


def _said(args: argparse.Namespace, made: Embeddings, found: Clusters, seen: Agreement | None) -> Iterator[str]:
    of = many(len(made), "crop") + (f" in {many(found.points, 'point')}" if found.points < len(made) else "")
    yield (
        f"{many(found.count, 'identity', 'identities')} among {of}; {found.alone:,} alone. "
        f"{found.method} within {found.within:g}, k1 = {found.k1}; pairs that cannot be one person: {found.apart:,}."
    )
    if seen:
        yield (
            f"{many(seen.people, 'person is', 'people are')} named: purity {100 * seen.purity:.1f} %, pairwise "
            f"precision {100 * seen.precision:.1f} %, recall {100 * seen.recall:.1f} %, F {100 * seen.f:.1f} %."
        )
    if args.output:
        yield f"Wrote {args.output}: identities as people; crops that are alone have none."
    if args.html:
        yield f"Page with the pictures: {args.html.resolve()}"
