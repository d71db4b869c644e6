from __future__ import annotations

import argparse
from pathlib import Path

from reid.cli.common import Model, metrics, model_options, progress, say
from reid.cli.search import table, write_sheet
from reid.errors import DataError

ABOUT = "draw a little street, search it, and write a page"
EXAMPLE = "reid demo -o demo/"


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", "--output", type=Path, default=Path("demo"), help="folder to draw into (default: demo)")
    verb.add_argument("--people", type=int, default=24, help="how many walk by (default: 24)")
    verb.add_argument("--seed", type=int, default=0, help="another number, another street (default: 0)")
    verb.add_argument("-k", type=int, default=10, help="answers per query (default: 10)")
    model_options(verb)


def run(args: argparse.Namespace) -> None:
    from reid import matcher, street
    from reid.evaluation import evaluate, query_and_gallery

    if args.k < 1:
        raise DataError(f"k is {args.k}; ask for at least 1 answer")
    if args.output.exists() and any(args.output.iterdir()) and not (args.output / "sheet.html").exists():
        raise DataError(f"{args.output} holds other files; give a new folder to draw into")
    crops = street.draw_street(args.output, people=args.people, seed=args.seed)
    model = Model(args)
    with progress("embedding", args, len(crops)) as step:
        everything = model()(crops, step)
    row = {crop.path: i for i, crop in enumerate(crops)}
    query, gallery = (everything[[row[c.path] for c in part]] for part in query_and_gallery(crops))
    report = evaluate(query, gallery, "cross-camera")
    shown = query[:: max(1, len(query) // 8)]
    ranking = matcher.search(shown, everything, args.k, matcher.Filter(other_cameras=True))
    answers = list(ranking.matches(everything.crops))
    if not args.json:
        say(f"Drew {len(crops)} crops of {args.people} people, seen by three cameras, into {args.output}/.")
        say("The model has learnt from photographs of other people; it has never seen a drawing.", "")
        say(*metrics(report, model.name(query)), "")
        say(*(line for pair in list(zip(shown.crops, answers, strict=True))[:3] for line in table(*pair)))
    facts = [("Model", model.name(query)), ("Gallery", f"{len(crops)} drawn crops"), ("Answers per query", str(args.k))]
    html = args.output / "sheet.html"
    write_sheet(html, shown.crops, answers, facts)
    if args.json:
        print(report.to_json())
    else:
        say(f"Page with the pictures, of these and more queries: {html.resolve()}")
