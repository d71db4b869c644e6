"""`reid index`, the part about trust: erasing, keeping, the log, and damage."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path

from reid.cli.common import in_folder
from reid.cli.common_gallery import Kind, Told, crops, filters, opened_gallery, shown, where
from reid.errors import DataError
from reid.wording import many


def erase_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("--yes", action="store_true", help="really do it; without, it is only said what would go")
    filters(kind)


def erase(args: argparse.Namespace) -> Told:
    chosen = where(args)
    with opened_gallery(args) as gallery:
        if not args.yes:
            count = gallery.erasable(chosen)
            return [f"This would erase {crops(count)} for good; add --yes to do it."], {"crops": count, "erased": False}
        receipt = gallery.erase(chosen)
    said = f"Erased {crops(receipt.rows)} ({receipt.what}). Receipt: entry {receipt.entry}, {receipt.digest}."
    return [said], {"crops": receipt.rows, "erased": True, "receipt": asdict(receipt)}


def keep_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("how_long", nargs="?", help="12h, 30d or 8w, or always; left out, it is only said")


def keep(args: argparse.Namespace) -> Told:
    with opened_gallery(args) as gallery:
        gone = None
        if args.how_long:
            gallery.keep = None if args.how_long == "always" else args.how_long
            gone = gallery.expire()
        keep = gallery.keep
    lines = [f"Crops are kept for {keep} after they came in." if keep else "Crops are kept until they are erased."]
    lines += [f"Erased {crops(gone.rows)} that came in earlier."] if gone and gone.rows else []
    return lines, {"keep": keep, "erased": gone.rows if gone else 0}


def audit_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument(
        "--verify",
        nargs="?",
        const=True,
        metavar="DIGEST",
        help="only check that no entry was changed, removed or put in later, and that the log still holds the entry "
        "with this digest, which was noted elsewhere",
    )
    kind.add_argument("--about", metavar="NAME", help="only entries about this person, tracklet or path of a crop")


def audit(args: argparse.Namespace) -> Told:
    from reid.gallery.records import moment
    from reid.gallery.rows import placed
    from reid.types import Crop

    with opened_gallery(args) as gallery:
        if args.verify is not None:
            checked = gallery.verify_audit(None if args.verify is True else args.verify)
            if checked.broken is not None and checked.broken > checked.entries:
                raise DataError(
                    f"no entry of the log of {shown(args.gallery)} has the digest {args.verify}; since it was noted, "
                    "entries were cut off or written anew, unless it was noted of another gallery"
                )
            if checked.broken is not None:
                raise DataError(
                    f"the log of {shown(args.gallery)} is broken at entry {checked.broken} of {checked.entries}, where "
                    "something was changed, removed or put in; trust what comes before it only"
                )
            count = many(checked.entries, "entry", "entries")
            return [f"{count}, unbroken. Note the digest of the last elsewhere: {checked.head}"], asdict(checked)
        names = {args.about, placed(Crop(args.about)).path} if args.about else {}
        hidden = [gallery.pseudonym(name) for name in names]
        every = ((e, json.dumps(dict(e.detail))) for e in gallery.audit())
        entries = [e for e, detail in every if not hidden or any(name in detail for name in hidden)]
    lines = [f"{e.number:>6}  {moment(e.at)}  {e.by}  {e.what}  {json.dumps(dict(e.detail))}" for e in entries]
    return lines or ["No entries."], {"entries": [asdict(e) for e in entries]}


def salvage_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument(
        "-o", "--output", type=in_folder, metavar="SAVED.db", help="a new gallery; left out, it is only said"
    )


def salvage(args: argparse.Namespace) -> Told:
    from reid.gallery import salvage as salvaging

    saved = salvaging.salvage(Path(args.gallery), args.output)
    lines = [
        f"{crops(saved.rows)} whole, {saved.broken:,} not what was written, "
        f"{many(saved.unread, 'stretch', 'stretches')} of rows and {many(saved.unread_blocks, 'block')} of vectors "
        f"unreadable; {many(saved.entries, 'entry', 'entries')} of the log."
    ]
    lines += [f"Wrote what is whole to {args.output}."] if args.output else []
    return lines, asdict(saved)


KINDS = {
    "erase": Kind("erase crops for good, with a receipt", erase_options, erase),
    "keep": Kind("say how long crops are kept", keep_options, keep),
    "audit": Kind("show who did what, or check that the log is whole", audit_options, audit),
    "salvage": Kind("say what of a damaged file is whole, and write it to a new one", salvage_options, salvage),
}
