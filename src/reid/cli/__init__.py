"""The command `reid`. To add a verb, write `cli/x.py` with ABOUT, EXAMPLE, `add` and `run`, and name it in VERBS.

A verb parses, calls the library, and prints text or, with --json, one JSON document.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from reid import __version__
from reid.cli import (
    bench,
    cluster,
    convert,
    demo,
    embed,
    evaluate,
    export,
    identify,
    index,
    plot,
    prior,
    search,
    serve,
    show,
    train,
    verify,
)
from reid.cli.common import say
from reid.errors import EXTRAS, MissingExtra, ReidError, Stopped

VERBS = {
    "show": show,
    "embed": embed,
    "index": index,
    "search": search,
    "verify": verify,
    "identify": identify,
    "cluster": cluster,
    "evaluate": evaluate,
    "prior": prior,
    "plot": plot,
    "train": train,
    "convert": convert,
    "export": export,
    "serve": serve,
    "bench": bench,
    "demo": demo,
}


class Verb(argparse.ArgumentParser):
    """The parser of the command or of a verb: it tells a mistake in one sentence, also that arguments are left over,
    which argparse leaves to the topmost parser."""

    def parse_known_args(self, args=None, namespace=None):  # type: ignore[no-untyped-def]
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"{' '.join(rest)} is nothing that it takes, or too much")
        return found, rest

    def error(self, message: str) -> NoReturn:
        say(f"{self.prog}: {message}; `{self.prog} --help` tells more", error=True)
        self.exit(2)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = Verb(prog="reid", description="Person re-identification: find, verify and measure people.")
    top.add_argument("--version", action="version", version=f"reid {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, module in VERBS.items():
        verb = verbs.add_parser(
            name,
            help=module.ABOUT,
            description=f"{module.ABOUT[0].upper()}{module.ABOUT[1:]}.",
            epilog=f"example:\n  {module.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.add_argument("--json", action="store_true", help="print one JSON document")
        verb.add_argument("--quiet", action="store_true", help="no progress bar")
        module.add(verb)
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Exit code 0: done, even where broken pictures were left out and named; 2: a mistake in what was asked, or a file
    that cannot be written, told in one sentence; 1: a bug; 130: Ctrl-C.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files need not be text
    args = parser().parse_args(arguments)
    try:
        VERBS[args.verb].run(args)
        sys.stdout.flush()
    except ReidError as error:
        say(f"reid {args.verb}: {error}", error=True)
        sys.exit(130 if isinstance(error, Stopped) else 2)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        say(f"reid {args.verb}: {MissingExtra(f'reid {args.verb}', EXTRAS[error.name])}", error=True)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        say(f"reid {args.verb}: {error.filename or 'a file'}: {error.strerror or error}", error=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
