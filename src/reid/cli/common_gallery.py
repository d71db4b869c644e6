"""What verbs that work with a gallery share: opening it, its model, and options that choose among its crops."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from reid.wording import many

if TYPE_CHECKING:
    from reid.gallery.gallery import Gallery
    from reid.gallery.rows import Where

Told = tuple[list[str], dict[str, Any]]
"""What a command prints: lines of text, or with --json facts by name."""


class Kind(NamedTuple):
    """One thing that `reid index` does: what it is about, its options, and how it is done."""

    about: str
    options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], Told]


def opened_gallery(args: argparse.Namespace) -> Gallery:
    """The gallery at the address that was given."""
    from reid.gallery.gallery import Gallery

    return Gallery.open(args.gallery)


def shown(source: str) -> str:
    """A source as it may be printed: the address of a gallery without its password."""
    from reid.gallery.address import Address, is_address

    return Address.parse(source).shown if is_address(source) else source


def recalled(gallery: Gallery, args: argparse.Namespace) -> None:
    """Take the model that the gallery was made with, where no other is named."""
    for name, value in gallery.made_with.items() if args.model is None else ():
        if getattr(args, name, "") is None:
            setattr(args, name, value)


def filters(kind: argparse.ArgumentParser, people: bool = True) -> None:
    """Options that choose among crops; what several of them ask for must all be so."""
    chosen = kind.add_argument_group("which crops")
    chosen.add_argument("--camera", action="append", help="only of this camera; may be given several times")
    chosen.add_argument("--not-camera", action="append", metavar="CAMERA", help="not of this camera")
    chosen.add_argument("--after", type=float, metavar="SECONDS", help="only taken at this time or later")
    chosen.add_argument("--before", type=float, metavar="SECONDS", help="only taken at this time or earlier")
    if people:
        chosen.add_argument("--person", action="append", metavar="NAME", help="only of this person")
    chosen.add_argument("--tracklet", action="append", metavar="NAME", help="only of this tracklet")
    chosen.add_argument("--tag", action="append", metavar="WORD", help="only tagged so; of several, with all")
    chosen.add_argument("--crop", action="append", metavar="PATH", help="only this crop")


def where(args: argparse.Namespace) -> Where:
    """What the options choose."""
    from reid.gallery.rows import Where, placed, row_id
    from reid.types import Crop

    def names(option: str) -> frozenset[str] | None:
        given = getattr(args, option, None)
        return None if given is None else frozenset(given)

    return Where(
        ids=None if args.crop is None else frozenset(row_id(placed(Crop(path))) for path in args.crop),
        cameras=names("camera"),
        not_cameras=names("not_camera") or frozenset(),
        after=args.after,
        before=args.before,
        people=names("person"),
        tracklets=names("tracklet"),
        tags=names("tag") or frozenset(),
    )


def crops(count: int) -> str:
    """So many, in words."""
    return many(count, "crop")
