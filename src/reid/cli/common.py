"""What several verbs share: the model's options, opening it on demand, a progress bar, naming what was left out."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.errors import DataError
from reid.wording import many, model_named, visible

if TYPE_CHECKING:
    from reid.embed import Embedder, Skipped
    from reid.types import Embeddings, Report
    from reid.verify import Verifier


FEW = 10  # things that are done before one could look at a bar


def model_options(verb: argparse.ArgumentParser) -> None:
    """--model, --like, --views, --engine and --precision."""
    verb.add_argument(
        "--model", help="a model file of ours or another toolkit, or the name of one that comes with reid"
    )
    verb.add_argument(
        "--like",
        metavar="CONVENTION",
        help="how a file that does not say so wants its pictures: torchreid, bgr255, … (docs/convert.md)",
    )
    verb.add_argument("--views", help="test-time views: plain, mirror or ten")
    verb.add_argument("--engine", help="onnxruntime, openvino or torch (default: the fastest for the model here)")
    verb.add_argument(
        "--precision", help="to compute in: fp32 (default), bf16 with openvino or torch, fp16 with torch on a GPU"
    )


def in_folder(name: str) -> Path:
    """The name of a file to write, refused where its folder is not there."""
    if not Path(name).parent.is_dir():
        raise argparse.ArgumentTypeError(f"the folder {Path(name).parent} does not exist; make it, or give another")
    return Path(name)


def ending(*suffixes: str) -> Callable[[str], Path]:
    """The name of a file to write, refused where it looks like another file or its folder is not there."""

    def path(name: str) -> Path:
        if Path(name).suffix.lower() not in suffixes:
            known = " or ".join(suffixes)
            raise argparse.ArgumentTypeError(f"{name} does not end in {known}, and might be a file of yours")
        return in_folder(name)

    return path


page = ending(".html", ".htm")


def crops_table(name: str) -> Path:
    """The name of a table of crops to write, refused where another file would be lost."""
    from reid.data import table

    return _table(name, table.COLUMNS)


def pairs_table(name: str) -> Path:
    """The name of a table of pairs to write, refused where another file would be lost."""
    from reid.data import pairs

    return _table(name, pairs.COLUMNS)


def _table(name: str, columns: Sequence[str]) -> Path:
    from reid.data import table

    path = ending(".csv")(name)
    try:
        table.check_over(path, columns)
    except DataError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return path


def apart(output: Path, sources: Sequence[str]) -> None:
    """Refuse to write over the very table that is read.

    Raises:
        DataError: the output is one of the sources, or the table of a folder that is one.
    """
    from reid import data

    for source in sources:
        table = data.table_of(source)
        if table and output.exists() and output.samefile(table):
            raise DataError(f"{output} is what is read, and what it says would be lost; give another name")


def card(path: Path | None) -> dict[str, Any]:
    """The facts of a JSON file that go into a model's metadata."""
    try:
        facts = json.loads(path.read_text()) if path else {}
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); give facts as {{'name': value, …}}") from None
    if not isinstance(facts, dict):
        raise DataError(f"{path} holds a {type(facts).__name__}; give facts as {{'name': value, …}}")
    return facts


def opened(args: argparse.Namespace) -> Embedder:
    """The model that the options name, or the default one."""
    from reid.embed import DEFAULT_MODEL, Embedder

    model = args.model or DEFAULT_MODEL
    return Embedder(model, views=args.views, like=args.like, engine=args.engine, precision=args.precision)


def add_kinds(
    verb: argparse.ArgumentParser,
    metavar: str,
    kinds: Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None], Callable[..., Any]]],
    first: Callable[[argparse.ArgumentParser], None] = lambda kind: None,
) -> None:
    """Verbs within a verb, by name: what each is about, what adds its options after the `first`, and what runs it."""
    parsers = verb.add_subparsers(dest="kind", metavar=metavar, required=True)
    for name, (about, options, _) in kinds.items():
        kind = parsers.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}.")
        for option in ("--json", "--quiet"):  # as they stand before the kind
            kind.add_argument(option, action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        first(kind)
        options(kind)


def calibration(args: argparse.Namespace, fingerprint: str) -> Verifier | None:
    """The calibration that was named, or the one beside the model where it is for that model."""
    from reid.embed import DEFAULT_MODEL, find_model
    from reid.verify import Verifier, beside

    if args.calibration:
        named = Verifier.load(args.calibration)
        named.check(fingerprint)
        return named
    path = beside(find_model(args.model or DEFAULT_MODEL))
    verifier = Verifier.load(path) if path.is_file() else None
    return verifier if verifier and verifier.model == fingerprint else None


class Model:
    """The model that the options name, opened on first use.

    Attributes:
        opened: the embedder, None as long as nothing had to be embedded.
    """

    def __init__(self, args: argparse.Namespace, cached: bool = False):
        self._args, self._cached = args, cached
        self.opened: Embedder | None = None

    def __call__(self) -> Embedder:
        if self.opened is None:
            self.opened = opened(self._args)
            if self._cached:
                from reid.cache import Cache

                self.opened.cache = Cache(self.opened.fingerprint)
        return self.opened

    def name(self, embeddings: Embeddings) -> str:
        """What to call the model behind some embeddings: its name where it was opened, its fingerprint otherwise."""
        return self.opened.name if self.opened else model_named(embeddings.model)


@contextmanager
def progress(
    what: str, args: argparse.Namespace, total: int | None = None, unit: str = " crops"
) -> Iterator[Callable[..., None]]:
    """A bar with rate and time left on standard error, where that is a terminal and there is something to wait for.

    Gives a function that takes how many more are done and, where it was not known before, how many there are in all.
    """
    if args.quiet or not sys.stderr.isatty() or (total is not None and total < FEW):
        yield lambda done, total=None: None
        return
    from tqdm import tqdm  # slow to import

    with tqdm(total=total, desc=what, unit=unit, leave=False) as bar:

        def step(done: int, total: int | None = None) -> None:
            bar.total = total or bar.total
            bar.update(done)

        yield step


def say(*lines: str, error: bool = False) -> None:
    """Print lines as a terminal may show them: a name in one can neither break it nor give orders to the terminal."""
    if lines:
        print("\n".join(map(visible, lines)), file=sys.stderr if error else sys.stdout, flush=True)


def percent(p: float) -> str:
    """A probability with more digits near 0 and 1, and never quite either.

    >>> percent(0.5), percent(0.9999999), percent(0.0004)
    ('50.0 %', '99.99 %', '0.04 %')
    """
    digits = 1 if 0.01 <= p <= 0.99 else 2
    return f"{min(max(100 * p, 0.01), 99.99):.{digits}f} %"


def name_skipped(skipped: Sequence[Skipped]) -> None:
    """Name pictures that could not be read, the first few in full."""
    for item in skipped[:10]:
        say(f"skipped: {item.reason}", error=True)
    if skipped:
        more = f"; {len(skipped) - 10:,} of them are not named here" if len(skipped) > 10 else ""
        say(f"{many(len(skipped), 'picture')} could not be read and left out{more}.", error=True)


def metrics(report: Report, model: str) -> Iterator[str]:
    """A report as lines of text."""
    searched = many(report.queries, "query", "queries")
    yield f"model {model}, protocol {report.protocol}, {searched}, gallery of {report.gallery:,}"
    if report.reranking:
        yield f"re-ranked with {report.reranking}"
    if report.skipped:
        verbs = ("has", "enters") if report.skipped == 1 else ("have", "enter")
        which = many(report.skipped, "query", "queries")
        yield f"{which} {verbs[0]} no valid match in the gallery and {verbs[1]} no figure"
    names = {"mAP": f"mAP ({report.average_precision})", "mAP-trapezoid": "mAP (trapezoid)"}
    for name, value in report.metrics.items():
        low, high = report.intervals.get(name, (None, None))
        between = "" if low is None or high is None else f"   95 % within {100 * low:.1f} – {100 * high:.1f}"
        yield f"  {names.get(name, name):<15} {100 * value:6.2f} %{between}"


def embedded(
    source: str,
    gallery: str | None,
    hold_out: int | None,
    model: Model,
    skip: Callable[[Skipped], None],
    step: Callable[[int], None],
) -> tuple[Embeddings, Embeddings]:
    """The queries and the gallery, embedded where they are not yet; of a data set only the crops that are needed."""
    from reid import data, matcher
    from reid.evaluation import query_and_gallery

    if gallery:
        return matcher.gather(source, model, skip, step), matcher.gather(gallery, model, skip, step)
    if matcher.is_embedded(source):
        made = matcher.gather(source, model)
        row = {crop.path: i for i, crop in enumerate(made.crops)}
        query, rows = (made[[row[c.path] for c in part]] for part in query_and_gallery(made.crops, hold_out))
        return query, rows
    query, rows = (model()(part, step, skip) for part in query_and_gallery(data.read(source), hold_out))
    return query, rows
