from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.cli.common import Model, add_kinds, embedded, ending, model_options, name_skipped, progress, say
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.embed import Skipped
    from reid.images import RGB
    from reid.plot.heat import Heat
    from reid.plot.separation import Separation
    from reid.plot.sheet import Sheet
    from reid.types import Embeddings

ABOUT = "draw maps of embeddings, distances, ROC and DET, training curves, and what a network looks at"
EXAMPLE = (
    "reid plot map crops/ -o map.html\n"
    "  reid plot map crops.npz --method umap --colour camera -o map.png\n"
    "  reid plot attention crops/ -o attention.html\n"
    "  reid plot curves run/ -o curves.html\n"
    "  reid plot scores crops.npz --at 0.001 -o scores.svg\n"
    "  reid plot roc ours.npz theirs.npz -o roc.html"
)


def add(verb: argparse.ArgumentParser) -> None:
    add_kinds(verb, "KIND", KINDS)


def run(args: argparse.Namespace) -> None:
    said, more = KINDS[args.kind][2](args)
    if args.json:
        print(json.dumps({"kind": args.kind, "output": str(args.output)} | more))
    else:
        say(*said.split("\n"), f"Drew {args.output.resolve()}")


def _output(kind: argparse.ArgumentParser, *endings: str) -> None:
    formats = f"a page or a picture, by its ending: {', '.join(endings)}"
    kind.add_argument("-o", "--output", type=ending(*endings), required=True, metavar="FILE", help=formats)


def _write(path: Path, content: str | bytes) -> None:
    from reid.disk import replacing

    with replacing(path) as partial:
        partial.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))


def _draw(path: Path, sheet: Sheet) -> None:
    _write(path, sheet.svg() if path.suffix.lower() == ".svg" else sheet.html())


def _curves_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("run", nargs="+", type=Path, help="folders that `reid train` wrote, 8 at most")
    _output(kind, ".html", ".svg")


def _curves(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from reid.plot import curves

    runs = curves.read_runs(args.run)
    sheet = curves.sheet(runs)
    _draw(args.output, sheet)
    best = {run.name: run.best() for run in runs}
    rows = [
        {"run": run.name, "epochs": len(run.epochs)}
        | ({} if (at := best[run.name]) is None else {"best_epoch": int(run.epochs[at]), "mAP": run.values["mAP"][at]})
        for run in runs
    ]
    return sheet.summary, {"runs": rows}


def _pairs_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument(
        "source",
        nargs="+",
        help="labelled crops or embeddings; several are models side by side, each a file of embeddings",
    )
    kind.add_argument("--gallery", metavar="SOURCE", help="the gallery, where the one source holds the queries alone")
    kind.add_argument("--hold-out", type=int, metavar="PEOPLE", help="only the last so many people, in sorted order")
    kind.add_argument("--protocol", default="market1501", help="market1501 (default), cuhk03, cross-camera or diagonal")
    _output(kind, ".html", ".svg")
    model_options(kind)


def _scores_options(kind: argparse.ArgumentParser) -> None:
    _pairs_options(kind)
    kind.add_argument(
        "--at",
        type=float,
        metavar="FPR",
        help="draw the threshold that accepts this share of pairs of two people (default: both errors are equal)",
    )


def _pairs(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from reid.plot import separation

    if args.gallery and len(args.source) > 1:
        raise DataError("--gallery goes with one source, the queries; of several, each holds queries and gallery")
    names = _names(args.source)
    parts = [_separation(args, source, name) for source, name in zip(args.source, names, strict=True)]
    draw = {"scores": separation.scores, "roc": separation.receiver, "det": separation.tradeoff}[args.kind]
    sheet = draw(parts)
    _draw(args.output, sheet)
    rows = [
        {"source": s, "protocol": p.found.protocol} | p.found.table() for s, p in zip(args.source, parts, strict=True)
    ]
    return sheet.summary, {"sources": rows}


def _separation(args: argparse.Namespace, source: str, name: str) -> Separation:
    from reid.plot.separation import separation

    model = Model(args, cached=True)
    skipped: list[Skipped] = []
    with progress("embedding", args) as step:
        query, gallery = embedded(source, args.gallery, args.hold_out, model, skipped.append, step)
    name_skipped(skipped)
    return separation(name, query, gallery, args.protocol, getattr(args, "at", None))


def _names(sources: list[str]) -> list[str]:
    """Files by name without ending, or as they were given where that does not tell them apart."""
    short = [Path(source.rstrip("/")).stem for source in sources]
    return short if len(set(short)) == len(short) else sources


def _map_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("source", nargs="+", help="pictures, a folder, a list, a CSV or embeddings")
    kind.add_argument("--method", default="tsne", help="tsne (default), umap, or pca, which needs no further package")
    kind.add_argument(
        "--near", type=int, metavar="N", help="neighbours that count: perplexity of t-SNE (30), neighbours of UMAP (15)"
    )
    kind.add_argument("--colour", default="person", help="what colours tell apart: person (default) or camera")
    kind.add_argument("--most", type=int, default=2000, metavar="N", help="crops shown at most (default: 2000)")
    kind.add_argument("--seed", type=int, default=0, help="another number, another map (default: 0)")
    kind.add_argument("--title", help="the heading")
    _output(kind, ".html", ".svg", ".png")
    model_options(kind)


def _map(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from reid.plot import maps

    made = _gathered(args)
    shown = maps.make_map(made, args.method, args.near, args.seed, args.most)
    heading = args.title or "Who looks like whom?"
    suffix = args.output.suffix.lower()
    draw: Callable[[maps.Map, str, str], str | bytes]
    draw = maps.svg if suffix == ".svg" else maps.png if suffix == ".png" else maps.html
    _write(args.output, draw(shown, heading, args.colour))
    rows = zip(shown.embeddings.crops, shown.points.tolist(), strict=True)
    return shown.summary, {"note": shown.note, "crops": [{"path": c.path, "x": x, "y": y} for c, (x, y) in rows]}


def _attention_options(kind: argparse.ArgumentParser) -> None:
    kind.add_argument("source", nargs="+", help="pictures, a folder, a list, a CSV or embeddings")
    kind.add_argument(
        "--by",
        choices=("occlusion", "activation"),
        default="occlusion",
        help="what moves the embedding when it is hidden (default; any model), or where the last feature map responds "
        "(needs PyTorch and weights)",
    )
    kind.add_argument("--most", type=_count, default=12, metavar="N", help="pictures, evenly chosen (default: 12)")
    _output(kind, ".html", ".png")
    model_options(kind)


def _count(number: str) -> int:
    if not number.isdecimal() or not int(number):
        raise argparse.ArgumentTypeError(f"{number} is no number of pictures; give 1 or more")
    return int(number)


def _attention(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    from reid import data, images
    from reid.embed import Skipped
    from reid.errors import ImageError
    from reid.plot import heat

    crops = data.read(args.source if len(args.source) > 1 else args.source[0])
    chosen = [crops[i * len(crops) // args.most] for i in range(args.most)] if len(crops) > args.most else list(crops)
    pictures, kept, skipped = [], [], []
    for crop in chosen:
        try:
            pictures.append(images.read(crop.path))
            kept.append(crop)
        except ImageError as error:
            skipped.append(Skipped(crop, str(error)))
    name_skipped(skipped)
    if not kept:
        raise DataError("none of the pictures could be read; the reasons are above")
    name, heats = _heats(args, pictures)
    if args.output.suffix.lower() == ".png":
        _write(args.output, heat.png(kept, pictures, heats, args.by))
    else:
        facts = [("Model", name), ("Pictures", f"{len(kept):,} of {len(crops):,}")]
        _write(args.output, heat.html(kept, pictures, heats, args.by, facts))
    said = f"{many(len(kept), 'picture')}, model {name}, by {args.by}"
    return said, {"model": name, "by": args.by, "crops": [crop.path for crop in kept]}


def _heats(args: argparse.Namespace, pictures: Sequence[RGB]) -> tuple[str, list[Heat]]:
    """The model's name, and a map for each picture."""
    from reid.embed import DEFAULT_MODEL

    if args.by == "activation":
        if args.views:
            raise DataError("--views goes with --by occlusion; activations are those of the plain picture")
        from reid.plot.attention import Activations

        looker = Activations(args.model or DEFAULT_MODEL)
        return looker.name, looker(pictures)
    from reid.plot import heat

    model = Model(args)()
    heats: list[Heat] = []
    with progress("hiding parts", args, len(pictures), " pictures") as step:
        for picture in pictures:
            heats.append(heat.occlusion(model.arrays, picture))
            step(1)
    return model.name, heats


def _gathered(args: argparse.Namespace) -> Embeddings:
    from reid import matcher

    model = Model(args, cached=True)
    skipped: list[Skipped] = []
    with progress("embedding", args) as step:
        made = matcher.gather(args.source if len(args.source) > 1 else args.source[0], model, skipped.append, step)
    name_skipped(skipped)
    if not len(made):
        raise DataError("none of the pictures could be read; the reasons are above")
    return made


KINDS: dict[
    str,
    tuple[str, Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], tuple[str, dict[str, Any]]]],
] = {
    "map": ("a map of embeddings, near where crops look alike, with the pictures", _map_options, _map),
    "attention": ("what a network looks at: pictures beside the same with heat", _attention_options, _attention),
    "curves": ("training curves of run folders, side by side", _curves_options, _curves),
    "scores": ("histograms of the distances of pairs of one person and of two", _scores_options, _pairs),
    "roc": ("ROC curves: true against false matches", _pairs_options, _pairs),
    "det": ("DET curves: missed against false matches", _pairs_options, _pairs),
}
