"""`reid index copy`: a gallery at another place."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from reid.cli.common import progress
from reid.cli.common_gallery import Kind, Told, crops, shown


def options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("target", metavar="TO", help="a file that ends in .db, or the address of a server")


def run(args: argparse.Namespace) -> Told:
    from reid.gallery.copy import copy

    with progress("copying", args) as step:
        done = copy(args.gallery, args.target, step)
    there = shown(args.target)
    lines = [
        f"{there} holds the {crops(done.rows)} of {shown(args.gallery)}, each the same; "
        f"{done.written:,} written now. Digest of all: {done.digest}.",
        f"Feedback that came along: {done.feedback:,}. "
        + (
            f"Entries of the log: {done.log:,}."
            if done.log is not None
            else f"{there} has a log of its own, kept as is."
        ),
    ]
    lines += [f"{there} also holds {crops(done.others)} that the other does not."] if done.others else []
    return lines, {"to": there} | asdict(done)


KINDS = {"copy": Kind("copy everything to another place, or go on with a copy that was cut off", options, run)}
