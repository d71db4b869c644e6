from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from reid.cli.common import metrics, progress, say
from reid.errors import DataError
from reid.wording import many

if TYPE_CHECKING:
    from reid.settings import Loss, Stage, TrainConfig
    from reid.types import Crop

ABOUT = "train a model on labelled crops"
EXAMPLE = (
    "reid train crops/ -o run/\n"
    "  reid train Market-1501/bounding_box_train --recipe market -o run/\n"
    "  reid train market1501/ cuhk03/ cuhk01/ --recipe general -o run/\n"
    "  reid train crops/ --net timm:convnext_tiny --init convnext_tiny.pth --size 256x128 -o run/"
)
DIRECT = ("net", "init", "teacher", "freeze", "people", "crops", "rate", "precision", "hold_out", "patience", "seed")


def add(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "source",
        nargs="+",
        help="labelled crops: a data set, a folder for each person, or a CSV; several are kept apart",
    )
    verb.add_argument("-o", "--output", type=Path, required=True, help="a new folder for the run")
    verb.add_argument(
        "--recipe", help="settings by name (default: base, from the model that comes with reid, fitted to your data)"
    )
    verb.add_argument("--split", help="this split of the data only (default: train, where the data has one)")
    verb.add_argument("--net", help="another network, or timm:NAME")
    verb.add_argument("--init", metavar="FILE", help="start from these weights, or from a model that comes with reid")
    verb.add_argument(
        "--loss",
        action="append",
        metavar="NAME[=WEIGHT]",
        help="another loss than the recipe's; several are added up (docs/models.md)",
    )
    verb.add_argument("--teacher", metavar="MODEL", help="learn from this model's embeddings too, with the loss distil")
    verb.add_argument("--freeze", type=int, metavar="EPOCHS", help="leave weights that came from --init alone so long")
    verb.add_argument("--epochs", type=int, help="in all")
    verb.add_argument("--size", metavar="HxW", help="one input size throughout, such as 256x128")
    verb.add_argument("--people", type=int, help="of a batch")
    verb.add_argument("--crops", type=int, help="of each person of a batch")
    verb.add_argument("--rate", type=float, help="the peak learning rate")
    verb.add_argument(
        "--precision",
        choices=("32-true", "bf16-mixed", "16-mixed"),
        help="of the arithmetic (default: the recipe's, single where bfloat16 is slow)",
    )
    verb.add_argument("--hold-out", type=int, metavar="PEOPLE", help="of each data set, kept for validation")
    verb.add_argument("--patience", type=int, metavar="N", help="stop after N validations without a better mAP")
    verb.add_argument("--seed", type=int, help="of every random choice")
    verb.add_argument("--tensorboard", action="store_true", help="write figures for TensorBoard too")
    verb.add_argument("--resume", action="store_true", help="go on with an interrupted run, if there is one")


def run(args: argparse.Namespace) -> None:
    sets = dict(named(args.source, args.split))
    config = chosen(args, sets)

    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun started, one speaks

    def tell(text: str) -> None:
        if first:
            say(*text.split("\n"), error=True)

    from reid.machine import suited  # where PyTorch is missing, that is said before anything else
    from reid.training import check, train

    check(config, args.output, args.resume)
    config = config if args.precision else suited(config)
    for line in plan(config, sets, args.recipe):
        tell(line)
    with progress("training", args, unit=" steps") as bar:
        seen = 0

        def step(done: int, total: int) -> None:
            nonlocal seen
            bar(done - seen, total)
            seen = done

        data = sets if len(sets) > 1 else next(iter(sets.values()))
        trained = train(data, config, args.output, args.resume, args.tensorboard, tell, step)
    if not first:
        return
    if args.json:
        import json
        from dataclasses import asdict

        print(json.dumps({"weights": str(trained.weights), **{k: asdict(v) for k, v in trained.reports.items()}}))
        return
    for name, report in trained.reports.items():
        say(*metrics(report, f"{trained.weights}{f' on {name}' if name else ''}"))
    say(f"weights in {trained.weights}; make a model file of them with: reid export {trained.weights} -o model.onnx")


def named(sources: Sequence[str], split: str | None) -> Iterator[tuple[str, list[Crop]]]:
    """Each source's people, by a name that tells the sources apart."""
    from reid import data
    from reid.data import splits

    names = [Path(source).name or source for source in sources]
    for i, source in enumerate(sources):
        crops = data.read(source, split)
        if split is None and "train" in splits.names(crops):
            crops = [c for c in crops if c.extra.get("split") == "train"]
        name = names[i] if names.count(names[i]) == 1 else f"{names[i]}-{i + 1}"
        yield name, [c for c in crops if c.pid is not None and c.role == "person"]


def chosen(args: argparse.Namespace, sets: Mapping[str, Sequence[Crop]]) -> TrainConfig:
    """The settings that the options name."""
    from reid.recipes import RECIPES
    from reid.settings import Stage

    name = args.recipe or "base"
    if name not in RECIPES:
        raise DataError(f"recipe is {name!r}; it can be {', '.join(RECIPES)}")
    config = RECIPES[name]()
    if name == "base":
        smallest = min(len({c.pid for c in crops}) for crops in sets.values())
        config = config.fitted(smallest, sum(len(crops) for crops in sets.values()))
    given: dict[str, Any] = {key: value for key in DIRECT if (value := getattr(args, key)) is not None}
    if args.loss:
        given["losses"] = tuple(losses(args.loss, config))
    if args.net:
        given = {"net_options": {}, "init": ""} | given
    config = replace(config, **given)
    if args.size:
        config = replace(config, stages=(Stage(config.epochs, *size(args.size)),))
    if args.epochs is not None and args.epochs < 1:
        raise DataError(f"--epochs is {args.epochs}; it must be at least 1")
    return config.lasting(args.epochs) if args.epochs else config


def losses(texts: Sequence[str], config: TrainConfig) -> Iterator[Loss]:
    """The losses that "triplet-hard" and "circle=0.5" mean; one that the recipe has too keeps its options."""
    from reid.settings import Loss

    options = {loss.name: loss.options for loss in config.losses}
    for text in texts:
        name, _, weight = text.partition("=")
        try:
            yield Loss(name, float(weight or 1), options.get(name, {}))
        except ValueError:
            raise DataError(f"--loss is {text!r}; give a name, or a name and a weight, such as circle=0.5") from None


def size(text: str) -> tuple[int, int]:
    """Height and width from "256x128"."""
    height, _, width = text.lower().partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise DataError(f"the size is {text!r}; give height x width in pixels, such as 256x128")
    return int(height), int(width)


def plan(config: TrainConfig, sets: Mapping[str, Sequence[Crop]], recipe: str | None) -> Iterator[str]:
    """What is about to happen, in a few lines."""
    for name, crops in sets.items():
        people, cameras = len({c.pid for c in crops}), len({c.camera for c in crops if c.camera is not None})
        yield (
            f"{name}: {many(len(crops), 'crop')} of {many(people, 'person', 'people')}, "
            f"cameras: {cameras or 'unknown'}; held out for validation: {many(config.hold_out, 'person', 'people')}"
        )

    def shown(stage: Stage) -> str:
        return f"{stage.epochs} at {stage.height}×{stage.width}"

    yield (
        f"recipe {recipe or 'base'}: {config.net}, "
        + (f"starting from {config.init}" if config.init else "from scratch")
        + f", {' + '.join(loss.name for loss in config.losses)}"
    )
    yield (
        f"{config.epochs} epochs ({', '.join(map(shown, config.stages))}), batches of {config.people} people × "
        f"{config.crops} crops, {config.optimizer} at {config.rate:g}, {config.precision}, seed {config.seed}"
    )
