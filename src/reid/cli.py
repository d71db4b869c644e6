"""The command `reid`: each verb parses, calls the library and prints text or, with --json, one JSON document."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.errors import DataError, ReidError

if TYPE_CHECKING:
    from reid.embed import Embedder, Skipped
    from reid.types import Match, Report

# ── show ──


def _show(args: argparse.Namespace) -> None:
    from reid import data, doctor

    with _progress("reading", args) as step:
        seen = [0]

        def count(done: int, total: int) -> None:
            step(done - seen[0])
            seen[0] = done

        found = doctor.examine(args.source, layout=args.layout, progress=count)
    if args.write_split:
        crops = data.read(args.source, layout=args.layout)
        data.table.write(args.output, crops, doctor.propose_splits(crops, args.write_split, args.share, args.seed))
    print(found.to_json() if args.json else found.text())
    if args.write_split and not args.json:
        print(
            f"\nWrote {args.output}; its column `split` says train, query or gallery for each of {len(crops):,} crops."
        )


def _add_show(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add("show", _show, "say what is in a folder of crops, and what is wrong with it", "reid show crops/")
    verb.add_argument("source", help="a folder, list file, CSV or file of embeddings")
    verb.add_argument("--layout", help="read the folder as this layout instead of recognising it")
    verb.add_argument("--write-split", choices=("people", "time"), help="also write a train/test split as a CSV")
    verb.add_argument("-o", "--output", type=Path, default=Path("splits.csv"), help="where (default: splits.csv)")
    verb.add_argument("--share", type=float, default=0.2, help="share held out for testing (default: 0.2)")
    verb.add_argument("--seed", type=int, default=0, help="of the choice of people (default: 0)")


# ── embed ──


def _embed(args: argparse.Namespace) -> None:
    from reid import data, files
    from reid.job import embed_to_file

    embedder = _embedder(args)
    crops = data.read(args.source if len(args.source) > 1 else args.source[0])
    skipped: list[Skipped] = []
    with _progress("embedding", args, len(crops)) as step:
        if args.output:
            skipped = embed_to_file(embedder, crops, args.output, step)
        else:
            for batch in embedder.stream(crops):
                skipped += batch.skipped
                for crop, vector in zip(batch.crops, batch.vectors, strict=True):
                    print(files.classic_line(crop.path, vector))
                step(len(batch.crops) + len(batch.skipped))
    _name_skipped(skipped)
    if args.output:
        done = {"output": str(args.output), "embedded": len(crops) - len(skipped), "dim": embedder.dim}
        text = f"Wrote {done['embedded']:,} embeddings of {embedder.dim} values to {args.output}."
        print(json.dumps(done | {"skipped": [[s.crop.path, s.reason] for s in skipped]}) if args.json else text)


def _add_embed(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add(
        "embed",
        _embed,
        "turn crops into embeddings",
        "reid embed crops/ -o crops.npz\n  reid embed files.txt --model model.onnx > embeddings.csv",
    )
    verb.add_argument("source", nargs="+", help="images, a folder, a list file or a CSV")
    _model_options(verb)
    verb.add_argument(
        "-o",
        "--output",
        type=Path,
        help=".npz, .csv or .parquet; goes on where it was stopped. Without it, prints name,v1,…,vD for each crop",
    )


# ── search ──


def _search(args: argparse.Namespace) -> None:
    from reid import matcher

    started = time.perf_counter()
    made: list[Embedder] = []
    skipped: list[Skipped] = []

    def embedder() -> Embedder:
        if not made:
            made.append(_embedder(args, cached=not args.no_cache))
        return made[0]

    with _progress("embedding", args) as step:
        gallery = matcher.gather(args.gallery, embedder, skipped.append, step)
        queries = args.query if len(args.query) > 1 else args.query[0]
        query = matcher.gather(queries, embedder, skipped.append, step)
    _name_skipped(skipped)
    if not len(query) or not len(gallery):
        raise DataError(f"none of the pictures of the {'query' if not len(query) else 'gallery'} could be read")
    ready = time.perf_counter()
    only = matcher.Filter(args.other_cameras, frozenset(args.camera) if args.camera else None, args.after, args.before)
    ranking = matcher.search(query, gallery, args.k, only)
    answers = list(ranking.matches(gallery.crops))
    seconds = {"gather": ready - started, "search": time.perf_counter() - ready}
    seconds |= made[0].seconds if made else {}
    _answer(args, query.crops, answers, f"{len(gallery):,} crops", made[0].name if made else query.model, seconds)


def _answer(
    args: argparse.Namespace,
    queries: Sequence[Any],
    answers: Sequence[Sequence[Match]],
    gallery: str,
    model: str,
    seconds: dict[str, float],
) -> None:
    """Print ranked answers, and write the HTML sheet where one was asked for."""
    if args.html:
        from reid import report
        from reid.disk import replacing

        facts = [("Model", model), ("Gallery", gallery), ("Answers per query", str(args.k))]
        page = report.sheet(queries, answers, "Where else was this person seen?", facts)
        with replacing(args.html) as partial:
            partial.write_text(page, encoding="utf-8")
    if args.json:
        rows = [
            {"query": asdict(q), "matches": [asdict(m) for m in found]}
            for q, found in zip(queries, answers, strict=True)
        ]
        print(json.dumps({"model": model, "seconds": seconds, "answers": rows}))
        return
    first = getattr(args, "first", len(queries))
    for query, found in zip(queries[:first], answers[:first], strict=True):
        print("\n".join(_ranked(query, found)))
    if args.html:
        print(f"Sheet with {len(queries)} {'query' if len(queries) == 1 else 'queries'}: {args.html.resolve()}")


def _ranked(query: Any, found: Sequence[Match]) -> Iterator[str]:
    """One query's answers as a table."""
    yield query.path + "".join(f"  {k} {v}" for k, v in (("person", query.pid), ("camera", query.camera)) if v)
    if not found:
        yield "  no crop of the gallery was allowed as an answer"
    rows = [("rank", "distance", "person", "camera", "time", "crop")]
    for m in found:
        when = "" if m.crop.time is None else f"{m.crop.time:.1f} s"
        rows.append((str(m.rank), f"{m.distance:.3f}", m.crop.pid or "", m.crop.camera or "", when, m.crop.path))
    used = [i for i in range(6) if any(row[i] for row in rows[1:])]
    widths = [max(len(row[i]) for row in rows) for i in range(6)]
    for row in rows if found else ():
        cells = [row[i].ljust(widths[i]) if i == 5 else row[i].rjust(widths[i]) for i in used]
        yield "  " + "  ".join(cells).rstrip()
    yield ""


def _add_search(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add(
        "search",
        _search,
        "find where else a person was seen",
        "reid search photo.jpg crops/\n  reid search photo.jpg crops.npz -k 20 --html sheet.html",
    )
    verb.add_argument("query", nargs="+", help="one or more pictures, a folder, a list, a CSV or embeddings")
    verb.add_argument("gallery", help="a folder, a list file, a CSV or a file of embeddings")
    verb.add_argument("-k", type=int, default=10, help="answers per query (default: 10)")
    verb.add_argument("--other-cameras", action="store_true", help="leave out the camera that saw the query")
    verb.add_argument("--camera", action="append", help="only this camera; may be given several times")
    verb.add_argument("--after", type=float, metavar="SECONDS", help="only crops taken at this time or later")
    verb.add_argument("--before", type=float, metavar="SECONDS", help="only crops taken at this time or earlier")
    verb.add_argument("--html", type=Path, metavar="FILE", help="also write a page with the pictures")
    verb.add_argument("--no-cache", action="store_true", help="neither use nor keep embeddings in the cache folder")
    _model_options(verb)


# ── evaluate ──


def _evaluate(args: argparse.Namespace) -> None:
    from reid import data, matcher
    from reid.evaluation import evaluate, query_and_gallery
    from reid.types import Embeddings

    skipped: list[Skipped] = []
    embedder = _embedder(args)
    with _progress("embedding", args) as step:

        def embeddings(source: Any) -> Embeddings:
            return matcher.gather(source, lambda: embedder, skipped.append, step)

        if args.gallery:
            query, gallery = embeddings(args.source), embeddings(args.gallery)
        else:
            parts = query_and_gallery(data.read(args.source), args.hold_out)
            query, gallery = (embedder(p, step, skipped.append) for p in parts)
    _name_skipped(skipped)
    report = evaluate(query, gallery, args.protocol)
    print(report.to_json() if args.json else "\n".join(_metrics(report, embedder.name)))


def _metrics(report: Report, model: str) -> Iterator[str]:
    yield f"model {model}, protocol {report.protocol}, {report.queries:,} queries, gallery of {report.gallery:,}"
    if report.skipped:
        yield f"{report.skipped:,} queries have no valid match in the gallery and are left out of every figure"
    names = {"mAP": f"mAP ({report.average_precision})"}
    for name, value in report.metrics.items():
        yield f"  {names.get(name, name):<14} {100 * value:6.2f} %"


def _add_evaluate(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add(
        "evaluate",
        _evaluate,
        "measure how well a model ranks, by a named protocol",
        "reid evaluate market1501:Market-1501/ --model run/best.onnx\n  reid evaluate crops/ --hold-out 100",
    )
    verb.add_argument("source", help="a data set with a query and a gallery, labelled crops, or the queries")
    verb.add_argument("gallery", nargs="?", help="the gallery, where the first argument holds the queries alone")
    verb.add_argument(
        "--hold-out", type=int, metavar="PEOPLE", help="use only the last so many people, in sorted order"
    )
    verb.add_argument("--protocol", default="market1501", help="market1501 or cross-camera (default: market1501)")
    _model_options(verb)


# ── train and export ──


def _train(args: argparse.Namespace) -> None:
    from reid import data
    from reid.recipes import RECIPES

    if args.recipe not in RECIPES:
        raise DataError(f"recipe is {args.recipe!r}; it can be {', '.join(RECIPES)}")
    from reid.training import BEST, train

    config = RECIPES[args.recipe]
    chosen = {name: value for name in ("seed", "hold_out") if (value := getattr(args, name)) is not None}
    report = train(data.read(args.source, split=args.split), replace(config, **chosen), args.output, args.resume)
    print(report.to_json() if args.json else "\n".join(_metrics(report, str(args.output / BEST))))


def _add_train(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add("train", _train, "train a model on labelled crops", "reid train Market-1501/ --split train -o run/")
    verb.add_argument("source", help="labelled crops: a data set, a folder for each person, or a CSV")
    verb.add_argument("-o", "--output", type=Path, required=True, help="a new folder for the run")
    verb.add_argument("--recipe", default="osnet", help="settings by name (default: osnet)")
    verb.add_argument("--split", help="train on this split of the data set only")
    verb.add_argument("--hold-out", type=int, metavar="PEOPLE", help="people kept for validation")
    verb.add_argument("--seed", type=int, help="of every random choice")
    verb.add_argument("--resume", action="store_true", help="go on with an interrupted run")


def _export(args: argparse.Namespace) -> None:
    from reid.export import export_onnx

    card = json.loads(args.card.read_text()) if args.card else None
    export_onnx(args.weights, args.output, card)
    done = {"output": str(args.output), "bytes": args.output.stat().st_size}
    print(
        json.dumps(done)
        if args.json
        else f"Wrote {args.output} ({done['bytes']:,} bytes); checked at batch 1, 2, 7, 64."
    )


def _add_export(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add("export", _export, "write a trained model as ONNX", "reid export run/best.safetensors -o model.onnx")
    verb.add_argument("weights", type=Path, help="a weights file that `reid train` wrote")
    verb.add_argument("-o", "--output", type=Path, required=True, help="the .onnx file to write")
    verb.add_argument("--card", type=Path, help="a JSON file with further facts to keep in the model's metadata")


# ── demo ──


def _demo(args: argparse.Namespace) -> None:
    from reid import matcher, street
    from reid.evaluation import evaluate, hold_out

    crops = street.draw_street(args.output, people=args.people, seed=args.seed)
    embedder = _embedder(args)
    with _progress("embedding", args, len(crops)) as step:
        everything = embedder(crops, step)
    _, queries, others = hold_out(crops, args.people)
    row = {c.path: i for i, c in enumerate(crops)}
    query, gallery = (everything[[row[c.path] for c in chosen]] for chosen in (queries, others))
    report = evaluate(query, gallery, "cross-camera")
    shown = everything[[row[c.path] for c in queries][:: max(1, len(queries) // 8)]]
    ranking = matcher.search(shown, everything, args.k, matcher.Filter(other_cameras=True))
    args.html, args.first = args.output / "sheet.html", 3
    if not args.json:
        print(f"Drew {len(crops)} crops of {args.people} people, seen by three cameras, into {args.output}/.")
        print("The model has learnt from photographs of other people; it has never seen a drawing.\n")
        print("\n".join(_metrics(report, embedder.name)) + "\n")
    answers = list(ranking.matches(everything.crops))
    _answer(args, shown.crops, answers, f"{len(crops):,} drawn crops", embedder.name, embedder.seconds)


def _add_demo(add: Callable[..., argparse.ArgumentParser]) -> None:
    verb = add("demo", _demo, "draw a little street, search it, and write a page", "reid demo -o demo/")
    verb.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to draw into (default: demo)")
    verb.add_argument("--people", type=int, default=24, help="how many walk by (default: 24)")
    verb.add_argument("--seed", type=int, default=0, help="another number, another street (default: 0)")
    verb.add_argument("-k", type=int, default=10, help="answers per query (default: 10)")
    _model_options(verb)


# ── shared ──


def _model_options(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--model", help="an ONNX file, or the name of a model that comes with reid")
    verb.add_argument("--views", help="test-time views: plain, mirror or ten")


def _embedder(args: argparse.Namespace, cached: bool = False) -> Embedder:
    from reid.cache import Cache
    from reid.embed import DEFAULT_MODEL, Embedder

    embedder = Embedder(args.model or DEFAULT_MODEL, views=args.views)
    if cached:
        embedder.cache = Cache(embedder.fingerprint)
    return embedder


@contextmanager
def _progress(what: str, args: argparse.Namespace, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """A bar with rate and time left on standard error, where that is a terminal."""
    from tqdm import tqdm

    with tqdm(total=total, desc=what, unit=" crops", disable=True if args.quiet else None, leave=False) as bar:

        def step(done: int) -> None:
            bar.update(done)

        yield step


def _name_skipped(skipped: Sequence[Skipped]) -> None:
    """Name pictures that could not be read, the first few in full."""
    for item in skipped[:10]:
        print(f"skipped: {item.reason}", file=sys.stderr)
    if skipped:
        more = f", {len(skipped) - 10:,} of them not named here" if len(skipped) > 10 else ""
        print(f"{len(skipped):,} pictures could not be read and were left out{more}.", file=sys.stderr)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(prog="reid", description="Person re-identification: find, verify and measure people.")
    from reid import __version__

    top.add_argument("--version", action="version", version=f"reid {__version__}")
    verbs = top.add_subparsers(dest="verb", metavar="VERB", required=True)

    def add(name: str, call: Callable[[argparse.Namespace], None], about: str, example: str) -> argparse.ArgumentParser:
        verb = verbs.add_parser(
            name,
            help=about,
            description=about[0].upper() + about[1:] + ".",
            epilog=f"example:\n  {example}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        verb.set_defaults(call=call)
        verb.add_argument("--json", action="store_true", help="print one JSON document")
        verb.add_argument("--quiet", action="store_true", help="no progress bar")
        return verb

    for each in (_add_show, _add_embed, _add_search, _add_evaluate, _add_train, _add_export, _add_demo):
        each(add)
    return top


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Exit code 0: done, even where broken pictures were left out and named; 2: a mistake in what was asked, or a file
    that cannot be written, told in one sentence; 1: a bug; 130: Ctrl-C.
    """
    args = parser().parse_args(arguments)
    try:
        args.call(args)
        sys.stdout.flush()
    except ReidError as error:
        print(f"reid {args.verb}: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"reid {args.verb}: {error.filename or 'a file'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
