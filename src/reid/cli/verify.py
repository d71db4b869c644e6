from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from reid.cli.common import FEW, ending, model_options, name_skipped, opened, percent, progress, say
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.embed import Skipped
    from reid.reid import ReId
    from reid.types import Crop, Verdict
    from reid.verify import Verifier

ABOUT = "say whether two pictures show the same person, and how likely"
EXAMPLE = (
    "reid verify a.jpg b.jpg\n"
    "  reid verify a.jpg b.jpg --far 1e-3\n"
    "  reid verify left.txt right.txt --json\n"
    "  reid verify pairs.csv\n"
    "  reid verify --fit crops/ --model mine.onnx -o mine.calibration.json"
)

FITTING = ("output", "hold_out", "protocol", "no_cameras", "about")
JUDGING = ("far", "prior", "calibration")


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("first", nargs="?", help="a picture; a list of pictures; or a CSV of pairs with the columns a,b")
    verb.add_argument("second", nargs="?", help="a picture, or a list as long as the first")
    verb.add_argument("--far", type=_share, metavar="RATE", help="decide by the threshold for this false-accept rate")
    verb.add_argument(
        "--prior",
        type=_share,
        metavar="P",
        help="how likely a pair shows one person before it is looked at (default: 0.5, as likely as not)",
    )
    verb.add_argument("--calibration", metavar="FILE", help="one that --fit wrote; default: the one beside the model")
    fitting = verb.add_argument_group("fitting a calibration")
    fitting.add_argument(
        "--fit",
        nargs="+",
        metavar="CROPS",
        help="labelled crops, pairs of which are formed within each source; or a CSV of pairs that somebody judged, "
        "with the columns a,b,same, as `reid index export --pairs` writes it",
    )
    fitting.add_argument("-o", "--output", type=ending(".json"), metavar="FILE", help="the calibration, as JSON")
    fitting.add_argument("--hold-out", type=int, metavar="PEOPLE", help="only the last so many people of each source")
    fitting.add_argument(
        "--protocol",
        help="which pairs count: market1501, those of one person only across cameras (default); diagonal, all of them; "
        "tracks, those known without labels, from tracks",
    )
    fitting.add_argument("--no-cameras", action="store_true", help="one curve for all cameras in any case")
    fitting.add_argument("--about", metavar="WORDS", help="what it is fitted on, to be kept in the file")
    model_options(verb)


def _share(text: str) -> float:
    """A number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number between 0 and 1")
    return value


def run(args: argparse.Namespace) -> None:
    given = [name for name in (JUDGING if args.fit else FITTING) if getattr(args, name) not in (None, False)]
    if given:
        option = "-o" if given[0] == "output" else f"--{given[0].replace('_', '-')}"
        goes = "is for judging pairs and does not go with --fit" if args.fit else "goes with --fit CROPS only"
        raise DataError(f"{option} {goes}; leave it out")
    if args.fit:
        fit(args)
        return
    from reid.embed import DEFAULT_MODEL
    from reid.reid import ReId

    pairs, named = _pairs(args)
    files = len({crop.path for pair in pairs for crop in pair})
    threads = 1 if files <= FEW else None
    name = args.model or DEFAULT_MODEL
    chosen = {option: getattr(args, option) for option in ("engine", "precision", "like")}
    model = ReId(name, args.calibration, args.views, threads, **chosen)
    if args.prior is not None:
        model.verifier = model.verifier.given(args.prior)
    skipped: list[Skipped] = []
    with progress("looking", args, files) as step:
        verdicts = model.verify(pairs, args.far, skipped.append if named else None, step)
    name_skipped(skipped)
    if not any(verdicts):
        raise DataError("no pair is left whose pictures can both be read; the reasons are above")
    if args.json:
        print(json.dumps(_report(model, pairs, verdicts, skipped, args.far)))
        return
    for pair, verdict in zip(pairs, verdicts, strict=True):
        if verdict:
            say(said(pair, verdict))
    say(*_explained(model.verifier, args.far))
    left_out = sum(v is None for v in verdicts)
    if left_out:
        say(f"{left_out:,} of {many(len(pairs), 'pair')} were left out, because a picture of theirs could not be read.")


def _pairs(args: argparse.Namespace) -> tuple[list[tuple[Crop, Crop]], bool]:
    """The pairs asked for; and whether they come from a list, of which what is broken is left out."""
    from reid import data, images

    if args.first is None:
        raise DataError("nothing to compare was given; give two pictures, two lists, or a CSV of pairs")
    if args.second is None:
        from reid.data import pairs

        return pairs.read(args.first), True
    sides = [data.read(side) for side in (args.first, args.second)]
    if len(sides[0]) != len(sides[1]):
        raise DataError(
            f"{args.first} has {many(len(sides[0]), 'picture')} and {args.second} {len(sides[1]):,}; they go in pairs, "
            "the first with the first"
        )
    return list(zip(*sides, strict=True)), not all(images.is_image(side) for side in (args.first, args.second))


def said(pair: tuple[Crop, Crop], verdict: Verdict) -> str:
    """One pair's verdict as a line."""
    word = {True: "same", False: "different", None: "not enough evidence"}[verdict.same]
    why = f"  ({'; '.join(verdict.reasons)})" if verdict.reasons else ""
    return f"{word:<10} {percent(verdict.probability):>8}  {verdict.distance:.3f}  {pair[0].path}  {pair[1].path}{why}"


def _explained(verifier: Verifier, far: float | None) -> list[str]:
    """What the figures mean, in a sentence or two."""
    lines = [f"Probability of one person ({_odds(verifier.prior)}), distance, pictures; {verifier}."]
    if far is not None:
        at = verifier.at(far)
        lines.append(
            f"Same up to a distance of {at.distance:.3f} (95 % interval {at.low:.3f}–{at.high:.3f}), which accepts "
            f"{100 * far:g} % of pairs of two people; of other people as many as these between "
            f"{100 * at.rate_low:.2g} and {100 * at.rate_high:.2g} %."
        )
    return lines


def _odds(prior: float) -> str:
    return "as likely as not beforehand" if prior == 0.5 else f"{prior:g} beforehand"


def _report(
    model: ReId,
    pairs: Sequence[tuple[Crop, Crop]],
    verdicts: Sequence[Verdict | None],
    skipped: Sequence[Skipped],
    far: float | None,
) -> dict[str, object]:
    rows = [
        {"a": a.path, "b": b.path} | (_finite(asdict(verdict)) if verdict else {"skipped": True})
        for (a, b), verdict in zip(pairs, verdicts, strict=True)
    ]
    return {
        "model": model.embedder.name,
        "fingerprint": model.embedder.fingerprint,
        "calibration": str(model.verifier),
        "prior": model.verifier.prior,
        "false_accepts": asdict(model.verifier.at(far)) if far is not None else None,
        "pairs": rows,
        "skipped": [[s.crop.path, s.reason] for s in skipped],
    }


def _finite(row: dict[str, object]) -> dict[str, object]:
    """JSON knows no infinite threshold."""
    return {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in row.items()}


def fit(args: argparse.Namespace) -> None:
    from reid.calibrate import calibrate

    if args.output is None or args.first is not None:
        raise DataError("--fit takes the crops after it and -o FILE, and nothing else; give -o mine.calibration.json")
    words = _words(args)
    sets = [list(words[0])] if words else [_labelled(source, args.hold_out) for source in args.fit]
    whom = f"the last {args.hold_out} people of " if args.hold_out else ""
    about = args.about or whom + ", ".join(Path(source.rstrip("/")).name for source in args.fit)
    embedder = opened(args)
    skipped: list[Skipped] = []
    with progress("looking", args) as step:
        said = words[1] if words else None
        protocol = args.protocol or "market1501"
        verifier = calibrate(embedder, sets, protocol, not args.no_cameras, about, skipped.append, step, said)
    name_skipped(skipped)
    verifier.save(args.output)
    if args.json:
        print(json.dumps(_summary(verifier, args.output)))
    else:
        say(*_fitted(verifier, args.output))


def _words(args: argparse.Namespace) -> tuple[tuple[Crop, ...], dict[tuple[str, str], bool]] | None:
    """The crops of a table of judged pairs, and what was said of them, where one was given."""
    from reid.data import pairs

    tables = [source for source in args.fit if pairs.is_judged(source)]
    if not tables:
        return None
    if len(tables) < len(args.fit) or args.hold_out:
        raise DataError("pairs that were judged go alone: neither with labelled crops, nor with --hold-out")
    rows = [row for table in tables for row in pairs.read_judged(table)]
    crops = {crop.path: crop for a, b, _ in rows for crop in (a, b)}
    return tuple(crops.values()), {(a.path, b.path): same for a, b, same in rows}


def _labelled(source: str, people: int | None) -> list[Crop]:
    """A source's crops, or those of its last so many people."""
    from reid import data
    from reid.evaluation import hold_out

    crops = data.read(source)
    if people is None:
        return crops
    _, query, gallery = hold_out(crops, people)
    return sorted(query + gallery, key=lambda crop: crop.path)


def _summary(verifier: Verifier, output: Path) -> dict[str, object]:
    names = ("model", "about", "people", "same", "different", "kind", "losses")
    return {"output": str(output)} | {name: getattr(verifier, name) for name in names}


def _fitted(verifier: Verifier, output: Path) -> list[str]:
    losses = ", ".join(f"{name} {loss:.3f}" for name, loss in verifier.losses.items())
    return [
        f"Wrote {output}: {verifier}; {many(verifier.same, 'pair')} of one person, {verifier.different:,} of two.",
        f"Log-loss on people left out (a guess has {math.log(2):.3f}): {losses}.",
    ]
