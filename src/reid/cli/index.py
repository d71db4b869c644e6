from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli import index_copy, index_people, index_trust
from reid.cli.common import Model, add_kinds, model_options, name_skipped, progress, say
from reid.cli.common_gallery import Kind, Told, crops, filters, opened_gallery, recalled, shown, where
from reid.errors import DataError
from reid.wording import many, model_named

if TYPE_CHECKING:
    from reid.embed import Skipped

ABOUT = "keep crops in a gallery: add, list, name and erase people, and see who did what"
EXAMPLE = (
    "reid index add people.db crops/ --tag street\n"
    "  reid index list people.db\n"
    "  reid index enrol people.db Ada photo1.jpg photo2.jpg\n"
    "  reid index merge people.db 12 17 --into Ada\n"
    "  reid index erase people.db --person Ada --yes\n"
    "  reid index keep people.db 30d\n"
    "  reid index copy people.db milvus://localhost:19530/people\n"
    "  reid index audit people.db --verify"
)


def add(verb: argparse.ArgumentParser) -> None:
    def gallery(kind: argparse.ArgumentParser) -> None:
        kind.add_argument("gallery", help="a file that ends in .db, or the address of a server")

    add_kinds(verb, "WHAT", KINDS, gallery)


def run(args: argparse.Namespace) -> None:
    lines, facts = KINDS[args.kind].run(args)
    if args.json:
        print(json.dumps({"kind": args.kind, "gallery": shown(args.gallery)} | facts))
    else:
        say(*lines)


def _add_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("source", nargs="+", help="pictures, a folder, a list, a CSV, embeddings or another gallery")
    kind.add_argument("--tag", action="append", default=[], help="a word for all of them; may be given several times")
    kind.add_argument("--pictures", action="store_true", help="keep a small picture of each in the gallery")
    kind.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings in the cache folder")
    model_options(kind)


def _add(args: argparse.Namespace) -> Told:
    from reid import data, indexing, matcher
    from reid.gallery.gallery import Gallery

    source = args.source if len(args.source) > 1 else args.source[0]
    known = _is_there(args)
    model = Model(args, cached=not args.no_cache)
    skipped: list[Skipped] = []
    if isinstance(source, str) and matcher.is_embedded(source):
        if args.pictures:
            raise DataError("--pictures needs pictures, and what was given are embeddings; give the crops themselves")
        made = matcher.gather(source, model)
        with Gallery.open(args.gallery, made.model, made.vectors.shape[1]) as gallery:
            indexing.add(gallery, made, args.tag)
            count, total = len(made), gallery.count()
    else:
        found = data.read(source)
        embedder = model()
        with Gallery.open(args.gallery, embedder.fingerprint, embedder.dim) as gallery:
            if not known:
                gallery.made_with = _named(args)
            with progress("adding", args, len(found)) as step:
                count = indexing.index(gallery, embedder, found, args.tag, args.pictures, step, skipped.append)
            total = gallery.count()
    name_skipped(skipped)
    facts = {"added": count, "crops": total, "skipped": [[s.crop.path, s.reason] for s in skipped]}
    return [f"Added {crops(count)} to {shown(args.gallery)}, which holds {total:,} now."], facts


def _is_there(args: argparse.Namespace) -> bool:
    """Whether there is a gallery at the address; if so, its model is taken where none was named."""
    try:
        with opened_gallery(args) as gallery:
            recalled(gallery, args)
    except DataError:  # said again, and better, when it is to be made
        return False
    return True


def _named(args: argparse.Namespace) -> dict[str, str]:
    """The options that name the model, with a file's place made absolute."""
    given = {name: getattr(args, name) for name in ("model", "views", "like", "precision")}
    if args.model and Path(args.model).is_file():
        given["model"] = str(Path(args.model).absolute())
    return {name: value for name, value in given.items() if value}


def _count(args: argparse.Namespace) -> Told:
    with opened_gallery(args) as gallery:
        count = gallery.count(where(args))
    return [f"{crops(count)}"], {"crops": count}


def _list_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--by", choices=("person", "tracklet", "crop"), default="person", help="default: person")
    filters(kind)


def _list(args: argparse.Namespace) -> Told:
    with opened_gallery(args) as gallery:
        chosen = where(args)
        total, keep = gallery.count(chosen), gallery.keep
        if args.by == "crop":
            every = [crop for part in gallery.rows(chosen, False, False) for crop in part.crops]
            table = [(c.pid or "", c.camera or "", "" if c.time is None else f"{c.time:.1f} s", c.path) for c in every]
            rows, named = [asdict(crop) for crop in every], ""
        else:
            found = (gallery.people if args.by == "person" else gallery.tracklets)(chosen)
            table = [(s.name, crops(s.crops), _cameras(s.cameras), _span(s.first, s.last)) for s in found]
            rows, named = (
                [asdict(s) for s in found],
                f", {many(len(found), args.by, {'person': 'people'}.get(args.by, ''))}",
            )
        kept = f"kept for {keep}" if keep else "kept until erased"
        first = f"{crops(total)}{named}; model {model_named(gallery.model)}, {gallery.dim} values; {kept}"
    widths = [max((len(row[i]) for row in table), default=0) for i in range(3)]
    padded = [[*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[3]] for row in table]
    facts = {"crops": total, "model": gallery.model, "dim": gallery.dim, "keep": keep, f"by_{args.by}": rows}
    return [first, *("  " + "  ".join(row).rstrip() for row in padded)], facts


def _cameras(names: Sequence[str]) -> str:
    return f"{'camera' if len(names) == 1 else 'cameras'} {', '.join(names)}" if names else ""


def _span(first: float | None, last: float | None) -> str:
    return "" if first is None else f"{first:.1f} – {last:.1f} s"


def _rebuild_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--to", metavar="ADDRESS", help="write a new gallery (default: a gallery in a file is changed)")
    kind.add_argument("--drop", action="store_true", help="leave out crops of which no picture is left")
    model_options(kind)


def _rebuild(args: argparse.Namespace) -> Told:
    from reid import indexing

    with opened_gallery(args) as gallery:
        embedder = Model(args)()
        with progress("embedding", args, gallery.count()) as step:
            count = indexing.rebuild(gallery, embedder, _named(args), args.to, args.drop, step)
    said = f"{shown(args.to or args.gallery)} holds {crops(count)} embedded by {embedder.name} now."
    return [said], {"crops": count, "model": embedder.fingerprint}


KINDS = {
    "add": Kind("add crops, or bring up to date those that are there", _add_options, _add),
    "list": Kind("list people, tracklets or crops", _list_options, _list),
    "count": Kind("count crops", filters, _count),
    "rebuild": Kind("embed all crops again with another model", _rebuild_options, _rebuild),
}
KINDS |= index_people.KINDS | index_trust.KINDS | index_copy.KINDS
