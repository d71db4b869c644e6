"""`reid index`, the part about people: who crops show, and what is known of that."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from reid.cli.common import Model, crops_table, model_options, name_skipped, pairs_table
from reid.cli.common_gallery import Kind, Told, crops, filters, opened_gallery, recalled, shown, where
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.embed import Skipped


def enrol_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("name", help="of the person")
    kind.add_argument("source", nargs="*", help="new pictures; none to enrol crops of the gallery, chosen as below")
    kind.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings in the cache folder")
    model_options(kind)
    filters(kind)


def enrol(args: argparse.Namespace) -> Told:
    from reid import matcher

    chosen = where(args)
    if bool(args.source) == (not chosen.everything):
        raise DataError("give either new pictures or a filter that chooses crops of the gallery, and not both")
    with opened_gallery(args) as gallery:
        if args.source:
            recalled(gallery, args)
            source = args.source if len(args.source) > 1 else args.source[0]
            skipped: list[Skipped] = []
            made = matcher.gather(source, Model(args, cached=not args.no_cache), skipped.append)
            name_skipped(skipped)
            count = gallery.enrol(args.name, made)
        else:
            count = gallery.enrol(args.name, chosen)
    return [f"Enrolled {args.name} with {crops(count)}."], {"person": args.name, "crops": count}


def rename_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("name", help="of the person now")
    kind.add_argument("new", help="of the person then")


def rename(args: argparse.Namespace) -> Told:
    with opened_gallery(args) as gallery:
        count = gallery.rename(args.name, args.new)
    return [f"{args.name} is {args.new} now, in {crops(count)}."], {"person": args.new, "crops": count}


def merge_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("names", nargs="+", metavar="NAME", help="people who are one")
    kind.add_argument("--into", required=True, metavar="NAME", help="what that one is called")


def merge(args: argparse.Namespace) -> Told:
    with opened_gallery(args) as gallery:
        count = gallery.merge(args.names, args.into)
    return [f"{crops(count)} went to {args.into}."], {"person": args.into, "crops": count}


def split_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("name", help="of the person")
    kind.add_argument("--new", required=True, metavar="NAME", help="of the person whom the chosen crops show")
    filters(kind, people=False)


def split(args: argparse.Namespace) -> Told:
    with opened_gallery(args) as gallery:
        count = gallery.split(args.name, where(args), args.new)
    return [f"{crops(count)} of {args.name} went to {args.new}."], {"person": args.new, "crops": count}


def forget_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("name", help="of the person, whose crops stay without a name")


def forget(args: argparse.Namespace) -> Told:
    with opened_gallery(args) as gallery:
        count = gallery.forget_person(args.name)
    return [f"{crops(count)} no longer {'has' if count == 1 else 'have'} a name."], {"crops": count}


def feedback_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("first", help="path of a crop in the gallery")
    kind.add_argument("second", help="path of another")
    word = kind.add_mutually_exclusive_group(required=True)
    word.add_argument("--same", action="store_true", help="they show one person")
    word.add_argument("--different", action="store_true", help="they show two")


def feedback(args: argparse.Namespace) -> Told:
    from reid.gallery.rows import Where, placed, row_ids
    from reid.types import Crop

    ids = row_ids([placed(Crop(args.first)), placed(Crop(args.second))])
    if ids[0] == ids[1]:
        raise DataError(f"{args.first} was given twice; give two crops of the gallery")
    with opened_gallery(args) as gallery:
        given = zip((args.first, args.second), ids, strict=True)
        missing = [path for path, row in given if not gallery.count(Where(ids=frozenset([row])))]
        if missing:
            raise DataError(
                f"not in {shown(args.gallery)}: {', '.join(missing)}; add pictures first, or check the path"
            )
        gallery.feedback(ids[0], ids[1], args.same)
        count = len(gallery.feedbacks())
    return [f"Kept; feedback on {many(count, 'pair')} now."], {"same": args.same, "pairs": count}


def export_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--pairs", type=pairs_table, metavar="FILE.csv", help="feedback, for `reid verify --fit`")
    kind.add_argument(
        "--crops", type=crops_table, metavar="FILE.csv", help="crops whose person is known, for `reid train`"
    )


def export(args: argparse.Namespace) -> Told:
    if not args.pairs and not args.crops:
        raise DataError("nothing to export was named; give --pairs FILE.csv, --crops FILE.csv or both")
    facts: dict[str, Any] = {}
    lines = []
    with opened_gallery(args) as gallery:
        for name, path, write in (
            ("pairs", args.pairs, gallery.export_pairs),
            ("crops", args.crops, gallery.export_crops),
        ):
            if path:
                facts[name] = write(path)
                lines.append(f"Wrote {many(facts[name], name.removesuffix('s'))} to {path}.")
    return lines, facts


KINDS = {
    "enrol": Kind("say who crops show", enrol_options, enrol),
    "rename": Kind("give a person another name", rename_options, rename),
    "merge": Kind("say that several people are one", merge_options, merge),
    "split": Kind("say that some of a person's crops show somebody else", split_options, split),
    "forget": Kind("forget a person's name and keep the crops", forget_options, forget),
    "feedback": Kind("say whether two crops show one person", feedback_options, feedback),
    "export": Kind("write what is known as tables for calibration and training", export_options, export),
}
