"""The swimmers study, end to end: eight swimmers seen from above in one video, recognised from a crop.

    python examples/swimmers.py SWIMMERS -o out/ [--epochs 15] [--seeds 0 1 2] [--splits time random] [--beside MODEL …]

SWIMMERS holds one folder a swimmer with frames `frame_101.jpg`. The compact CNN is trained twice, from scratch, by the
recipe `swimmers`: with cross-entropy, to answer by its classifier; and with the semi-hard triplet loss, to answer by a
linear SVM on its embeddings (`Identifier("svm")`) or by the nearest mean. Rare swimmers are drawn as often as the
others. Beside them: no model at all, the nearest training crop by raw pixels; and any models given, with the same SVM.

Two splits. "random": a random fifth of each swimmer's frames is for testing. Frames are consecutive, so each test frame
has a neighbour among the training frames that is nearly the same picture. "time": the last fifth of each swimmer's
frames.

Needs PyTorch and scikit-learn: pip install 'reid[train,identify,plot]'. It writes results.json and, for the first seed,
curves, confusion matrices and t-SNE maps before and after training. When interrupted, it goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from reid import checkpoint, data, distance, images
from reid.data.splits import propose_splits
from reid.embed import Embedder
from reid.feed import Feed
from reid.identify import Identifier
from reid.machine import suited
from reid.nets import build
from reid.plot import curves, maps
from reid.recipes import RECIPES
from reid.settings import Loss, TrainConfig
from reid.training import train
from reid.types import Crop
from reid.validation import normalise

PIXELS = (40, 20)  # height and width of the pictures that are compared without a model
RECIPE = RECIPES["swimmers"]()
METHODS: dict[str, TrainConfig] = {
    "cross-entropy": replace(RECIPE, losses=(Loss("cross-entropy"),), batches="shuffled"),
    "semi-hard": RECIPE,
}
Said = dict[str, list[str]]


def split(crops: Sequence[Crop], kind: str, seed: int) -> tuple[list[Crop], list[Crop]]:
    """Crops to train on, and crops to test on, a fifth of each swimmer's."""
    if kind == "time":
        part = propose_splits(crops, "time", 0.2)
        return [c for c in crops if part[c.path] == "train"], [c for c in crops if part[c.path] == "query"]
    rng, tested = np.random.default_rng(seed), set()
    for pid in sorted({str(c.pid) for c in crops}):
        theirs = [c.path for c in crops if c.pid == pid]
        tested |= set(rng.permutation(theirs)[: round(0.2 * len(theirs))].tolist())
    return [c for c in crops if c.path not in tested], [c for c in crops if c.path in tested]


def by_pixels(known: Sequence[Crop], asked: Sequence[Crop]) -> list[str]:
    """Who the nearest training crop shows, by squared differences of small pictures."""

    def flat(crops: Sequence[Crop]) -> NDArray[np.float32]:
        return np.stack([images.resize(images.read(c.path), *PIXELS).ravel() for c in crops]).astype(np.float32)

    nearest = distance.top_k(flat(asked), flat(known), 1).ids[:, 0]
    return [str(known[i].pid) for i in nearest]


@torch.no_grad()
def by_classifier(weights: Path, asked: Sequence[Crop], people: Sequence[str]) -> list[str]:
    """Who the classifier that was trained with the network says."""
    net = build("compact", classes=len(people))
    net.load_state_dict(checkpoint.load(weights)[0])
    size = RECIPE.stages[-1]
    feed = Feed(asked, size.height, size.width, torch.device("cpu"))
    rows = np.array_split(np.arange(len(asked)), max(1, len(asked) // 64))
    found = torch.cat([net.eval()(normalise(pixels)).logits[0].argmax(1) for _, pixels in feed.batches(rows)])
    return [people[i] for i in found.tolist()]


def by_embedding(model: Embedder, known: Sequence[Crop], asked: Sequence[Crop], name: str) -> Said:
    """Who a linear SVM and the nearest mean say, of the embeddings of a model."""
    enrolled, query, found = model(known), model(asked), {}
    for kind, words in (("svm", "linear SVM"), ("mean", "nearest mean")):
        answers = Identifier(kind).fit(enrolled).identify(query, k=1)
        found[f"{name} + {words}"] = [str(answer.pid) for answer in answers]
    return found


def learn(known: list[Crop], asked: list[Crop], epochs: int, seed: int, folder: Path) -> Said:
    """Train both networks; who each way of answering says the test crops show."""
    found: Said = {}
    people = sorted({str(c.pid) for c in known})
    for name, config in METHODS.items():
        config = suited(config.lasting(epochs))
        config = replace(config, seed=seed, validate_every=epochs, people=min(config.people, len(people)))
        weights = train(known, config, folder / name, resume=True).weights
        if name == "cross-entropy":
            found["cross-entropy, its classifier"] = by_classifier(weights, asked, people)
        found |= by_embedding(Embedder(weights), known, asked, name)
    return found


def draw(asked: list[Crop], found: Said, folder: Path) -> None:
    """Maps of the test crops before and after training, training curves, and who was taken for whom."""
    trained = folder / "semi-hard" / "best.safetensors"
    before = folder / "before.safetensors"
    torch.manual_seed(0)
    checkpoint.save(before, build("compact").state_dict(), checkpoint.load(trained)[1])
    for title, weights in (
        ("Before training", before),
        *((f"Trained with {name}", folder / name / "best.safetensors") for name in METHODS),
    ):
        shown = maps.make_map(Embedder(weights)(asked))
        (folder / f"{weights.parent.name if weights != before else 'before'}.svg").write_text(maps.svg(shown, title))
    runs = curves.read_runs([folder / name for name in METHODS])
    (folder / "curves.svg").write_text(curves.sheet(runs).svg())
    truth = [str(c.pid) for c in asked]
    tables = [f"{name}\n\n{confusion(truth, said)}\n" for name, said in found.items()]
    (folder / "confusion.md").write_text("\n".join(tables))


def confusion(truth: Sequence[str], said: Sequence[str]) -> str:
    """A table in Markdown: rows are swimmers, columns what was said."""
    people = sorted(set(truth) | set(said))
    counts = {(a, b): 0 for a in people for b in people}
    for pair in zip(truth, said, strict=True):
        counts[pair] += 1
    rows = [f"| {a} | {' | '.join(str(counts[a, b] or '') for b in people)} |" for a in people]
    return "\n".join([f"| | {' | '.join(people)} |", f"|---|{'---|' * len(people)}", *rows])


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("swimmers")
    parse.add_argument("-o", "--output", type=Path, required=True)
    parse.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parse.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parse.add_argument("--splits", nargs="+", choices=("time", "random"), default=["time", "random"])
    parse.add_argument("--beside", nargs="*", default=[], metavar="MODEL", help="models to answer with an SVM on them")
    args = parse.parse_args()
    crops = data.read(f"folders:{args.swimmers}")
    others = [Embedder(model) for model in args.beside]
    right: dict[str, dict[str, list[float]]] = {kind: {} for kind in args.splits}
    for kind, seed in ((kind, seed) for seed in args.seeds for kind in args.splits):
        known, asked = split(crops, kind, seed)
        folder = args.output / kind / str(seed)
        found = {"raw pixels, nearest crop": by_pixels(known, asked)} | learn(known, asked, args.epochs, seed, folder)
        for model in others:
            found |= by_embedding(model, known, asked, model.name)
        truth = np.array([c.pid for c in asked])
        for name, said in found.items():
            right[kind].setdefault(name, []).append(float(np.mean(np.array(said) == truth)))
        print(
            f"{kind}, seed {seed}: " + "; ".join(f"{n} {100 * v[-1]:.1f} %" for n, v in right[kind].items()), flush=True
        )
        if seed == args.seeds[0]:
            draw(asked, found, folder)
    (args.output / "results.json").write_text(json.dumps({"right": right, "recipe": asdict(RECIPE)}, indent=1))
    print(f"\n| | {' | '.join(right)} |\n|---|{'---|' * len(right)}")
    for name in next(iter(right.values())):
        cells = [
            f"{100 * statistics.mean(r[name]):.1f} ({', '.join(f'{100 * v:.1f}' for v in r[name])})"
            for r in right.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
