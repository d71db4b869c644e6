"""The swimmers study, end to end: eight swimmers seen from above in one video, recognised from a crop.

    python examples/swimmers.py SWIMMERS -o out/ [--epochs 30] [--seeds 0 1 2] [--splits time random]

SWIMMERS holds one folder a swimmer with frames `frame_101.jpg`. The same compact CNN is trained twice, from scratch,
with the same pictures, size of batches and number of epochs: with cross-entropy, to answer by its classifier; and with
the semi-hard triplet loss, to answer by a linear SVM on its embeddings (`Identifier("svm")`), or by the nearest mean.
Rare swimmers are drawn as often as the others (rarity 0). Beside them: no model at all, the nearest training crop by
raw pixels.

Two splits. "random": a random fifth of the frames is for testing. Frames are consecutive, so each test frame has a
neighbour among the training frames that is nearly the same picture. "time": the last fifth of each swimmer's frames.

Needs PyTorch and scikit-learn: pip install 'reid[train,identify]'. It writes results.json and, for the first seed,
curves, confusion matrices and t-SNE maps before and after training, as SVG.
"""

from __future__ import annotations

import argparse
import html
import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from reid import checkpoint, data, distance, images
from reid.data.splits import propose_splits
from reid.feed import Feed
from reid.identify import Identifier
from reid.nets import build
from reid.settings import Augment, Batches, Loss, Stage, TrainConfig
from reid.training import train
from reid.types import Crop, Embeddings
from reid.validation import embed, normalise

SIZE = Stage(1, 160, 80)
PIXELS = (40, 20)  # height and width of the pictures that are compared without a model
COLOURS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222222")
LOSSES: dict[str, tuple[Loss, Batches]] = {
    "cross-entropy": (Loss("cross-entropy"), "shuffled"),
    "semi-hard triplet": (Loss("semi-hard", 1.0, {"margin": 1.0}), "people"),
}


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


def raw_pixels(known: Sequence[Crop], asked: Sequence[Crop]) -> list[str]:
    """Who the nearest training crop shows, by squared differences of small pictures."""

    def flat(crops: Sequence[Crop]) -> NDArray[np.float32]:
        return np.stack([images.resize(images.read(c.path), *PIXELS).ravel() for c in crops]).astype(np.float32)

    nearest = distance.top_k(flat(asked), flat(known), 1).ids[:, 0]
    return [str(known[i].pid) for i in nearest]


def config(loss: str, people: int, epochs: int, seed: int) -> TrainConfig:
    term, batches = LOSSES[loss]
    return TrainConfig(
        net="compact",
        losses=(term,),
        stages=(replace(SIZE, epochs=epochs),),
        batches=batches,
        people=min(8, people),
        crops=8,
        rarity=0.0,
        rate=1e-3,
        warmup=1,
        average=0.99,
        augment=Augment(erase=0.0),
        hold_out=0,
        validate_every=epochs,
        precision="32-true",
        seed=seed,
    )


@torch.no_grad()
def by_classifier(net: nn.Module, asked: Sequence[Crop], people: Sequence[str]) -> list[str]:
    """Who the network's classifier says."""
    feed = Feed(asked, SIZE.height, SIZE.width, torch.device("cpu"))
    rows = np.array_split(np.arange(len(asked)), max(1, len(asked) // 64))
    found = torch.cat([net(normalise(pixels)).logits[0].argmax(1) for _, pixels in feed.batches(rows)])
    return [people[i] for i in found.tolist()]


def run(
    known: list[Crop], asked: list[Crop], epochs: int, seed: int, folder: Path, first: bool
) -> dict[str, list[str]]:
    """Train both networks; who each method says the test crops show. Draws maps for the first seed."""
    people = sorted({str(c.pid) for c in known})
    found = {}
    for name in LOSSES:
        out = folder / name.replace(" ", "-")
        weights = train(known, config(name, len(people), epochs, seed), out, resume=True).weights
        net = build("compact", classes=len(people))
        net.load_state_dict(checkpoint.load(weights)[0])
        net.eval()
        if name == "cross-entropy":
            found["cross-entropy, its classifier"] = by_classifier(net, asked, people)
        enrolled, query = embed(net, known, SIZE), embed(net, asked, SIZE)
        for kind, words in (("svm", "linear SVM"), ("mean", "nearest mean")):
            answers = Identifier(kind).fit(enrolled).identify(query, k=1)
            found[f"{name} + {words}"] = [str(answer.pid) for answer in answers]
        if first:
            torch.manual_seed(0)
            before = embed(build("compact").eval(), asked, SIZE)
            (folder / f"{out.name}-before.svg").write_text(tsne(before, "before training"))
            (folder / f"{out.name}-after.svg").write_text(tsne(query, f"after training with {name}"))
    return found


def tsne(made: Embeddings, title: str) -> str:
    """A map of the test crops as SVG, coloured by swimmer; points only."""
    from sklearn.manifold import TSNE

    place = TSNE(perplexity=min(30, len(made) // 4), random_state=0).fit_transform(made.vectors)
    place = (place - place.min(axis=0)) / np.ptp(place, axis=0)
    people = sorted({str(c.pid) for c in made.crops})
    dots = "".join(
        f'<circle cx="{20 + 360 * x:.1f}" cy="{40 + 340 * y:.1f}" r="3" fill="{COLOURS[people.index(str(c.pid)) % 8]}">'
        f"<title>swimmer {html.escape(str(c.pid))}</title></circle>"
        for (x, y), c in zip(place, made.crops, strict=True)
    )
    key = "".join(
        f'<circle cx="{28 + 46 * i}" cy="402" r="4" fill="{COLOURS[i % 8]}"/><text x="{36 + 46 * i}" y="406">{p}</text>'
        for i, p in enumerate(people)
    )
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 420" font-family="sans-serif" font-size="12">
<rect width="400" height="420" fill="#fff"/><text x="20" y="22" font-size="14">t-SNE {html.escape(title)}</text>
{dots}{key}</svg>
"""


def confusion(truth: Sequence[str], said: Sequence[str]) -> str:
    """A table in Markdown: rows are swimmers, columns what was said."""
    people = sorted(set(truth) | set(said))
    counts = {(a, b): 0 for a in people for b in people}
    for pair in zip(truth, said, strict=True):
        counts[pair] += 1
    rows = [f"| {a} | {' | '.join(str(counts[a, b] or '') for b in people)} |" for a in people]
    return "\n".join([f"| | {' | '.join(people)} |", f"|---|{'---|' * len(people)}", *rows])


def curves(folder: Path) -> dict[str, list[float]]:
    """Training loss by epoch of each method."""
    found = {}
    for name, (term, _) in LOSSES.items():
        lines = (folder / name.replace(" ", "-") / "metrics.jsonl").read_text().splitlines()
        found[name] = [json.loads(line)[term.name] for line in lines]
    return found


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("swimmers")
    parse.add_argument("-o", "--output", type=Path, required=True)
    parse.add_argument("--epochs", type=int, default=30)
    parse.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parse.add_argument("--splits", nargs="+", choices=("time", "random"), default=["time", "random"])
    args = parse.parse_args()
    crops = data.read(f"folders:{args.swimmers}")
    results: dict[str, dict[str, list[float]]] = {}
    for kind in args.splits:
        right: dict[str, list[float]] = {}
        for seed in args.seeds:
            known, asked = split(crops, kind, seed)
            truth = [str(c.pid) for c in asked]
            folder = args.output / kind / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            first = seed == args.seeds[0]
            found = {"raw pixels, nearest crop": raw_pixels(known, asked)}
            found |= run(known, asked, args.epochs, seed, folder, first)
            for name, said in found.items():
                right.setdefault(name, []).append(float(np.mean([a == b for a, b in zip(truth, said, strict=True)])))
            print(
                f"{kind}, seed {seed}: " + "; ".join(f"{n} {100 * v[-1]:.1f} %" for n, v in right.items()), flush=True
            )
            if first:
                (folder / "curves.json").write_text(json.dumps(curves(folder)))
                tables = [f"{name}\n\n{confusion(truth, said)}\n" for name, said in found.items()]
                (folder / "confusion.md").write_text("\n".join(tables))
        results[kind] = right
    (args.output / "results.json").write_text(json.dumps(results, indent=1))
    print(f"\n| | {' | '.join(results)} |\n|---|{'---|' * len(results)}")
    for name in next(iter(results.values())):
        cells = [
            f"{100 * statistics.mean(r[name]):.1f} ({', '.join(f'{100 * v:.1f}' for v in r[name])})"
            for r in results.values()
        ]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
