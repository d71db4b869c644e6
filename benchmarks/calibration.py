"""What the probabilities, thresholds and doubts of `reid verify` are worth on people who were not fitted on.

    python benchmarks/calibration.py DATA [--model NAME …] [--embeddings FOLDER] [--draw FILE.svg] [--only-speed]
    python benchmarks/calibration.py DATA [--model NAME …] [--embeddings FOLDER] --doubt

DATA holds market1501/bounding_box_train, cuhk03/labeled and cuhk01; only the last 100 people of each take part, who are
in no shipped model's training. Every figure is of people left out: half of the people are fitted on, the other half
measured, in ten random splits, and means are printed. Embeddings are kept in the folder, by the model's fingerprint.
Pairs weigh as in fitting: each person the same, each two people the same, half of the weight on either kind.

--doubt is how the curves' doubt was chosen, on other people than these 100: 300 of the rest, 50 of them fitted on and
250 measured, in eight draws.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice, product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from reid import charts, data, evaluation, files, images, quality
from reid.disk import replacing
from reid.embed import DEFAULT_MODEL, Embedder
from reid.reid import ReId
from reid.roc import bootstrap
from reid.types import Embeddings
from reid.verify import Verifier
from reid.verify.curve import KINDS, sigmoid
from reid.verify.fit import curve_of
from reid.verify.measure import calibration_error, log_loss, reliability
from reid.verify.pairs import Pairs, labelled, thinned

SETS = {"Market-1501": "market1501/bounding_box_train", "CUHK03": "cuhk03/labeled", "CUHK01": "cuhk01"}
PEOPLE, SPLITS, FEW = 100, 10, 500
MANY, MEASURED, DOUBTS = 250, 400_000, (0.5, 0.05, 0.005)
Floats = NDArray[np.float64]
RATES = (1e-2, 1e-3)
STYLE = """<style>
text{font:12px system-ui,sans-serif;fill:#555} .label{fill:#333} .named{font-weight:600;fill:var(--c,#333)}
.named{stroke:#fff;stroke-width:4px;paint-order:stroke}
.grid{stroke:#ddd} .axis{stroke:#888} path{fill:none} .line{stroke:var(--c);stroke-width:2}
.dashed{stroke:#999;stroke-dasharray:4}
.dot{fill:var(--c)} .hover{display:none}
svg{--accent:#2563eb;--hot:#c2410c;--quiet:#999;--ink:#222;background:#fff}
</style>"""


class Looked:
    """One data set's people left out of training: embeddings, and some of them as they are and gone wrong."""

    def __init__(self, embedder: Embedder, root: Path, kept: Path):
        _, query, gallery = evaluation.hold_out(data.read(root), PEOPLE)
        crops = sorted(query + gallery, key=lambda crop: crop.path)
        path = kept / f"{root.parent.name}-{root.name}-{embedder.fingerprint}.npz"
        if path.exists():
            self.made = files.load(path)
        else:
            kept.mkdir(parents=True, exist_ok=True)
            self.made = embedder(crops)
            files.save(self.made, path)
        few = self.made[thinned(self.made.crops, FEW)]
        pictures = [images.read(crop.path) for crop in few.crops]
        worse = quality.worsened(pictures)
        self.both = Embeddings(np.concatenate([few.vectors, embedder.arrays(worse)]), few.crops * 2, few.model)
        self.quality = quality.measures([*pictures, *worse])
        self.natural = np.arange(2 * len(few)) < len(few)


def splits(pairs: Pairs) -> Iterator[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Masks of half of each set's people, and of the others."""
    for seed in range(SPLITS):
        rng = np.random.default_rng(seed)
        half = np.concatenate([rng.permutation(n) < n // 2 for n in pairs.people])
        yield half, ~half


def probabilities(verifier: Verifier, pairs: Pairs) -> NDArray[np.float64]:
    names: list[tuple[str | None, str | None]] = [*pairs.cameras, (None, None)]
    return verifier.probability(pairs.distances, [names[i] for i in pairs.between] if verifier.cameras else None)


def realised(verifier: Verifier, pairs: Pairs, rate: float) -> tuple[float, bool]:
    """The false-accept rate of the threshold for a rate, and whether it lies in the stated interval."""
    wrong = pairs[~pairs.same]
    at = verifier.at(rate)
    met = float(np.average(wrong.distances <= at.distance, weights=wrong.weights()))
    return met, at.rate_low <= met <= at.rate_high


def least(p: Floats, pairs: Pairs, draws: int = 20) -> float:
    """The error that a perfect calibration would be measured to have, with so few people.

    Every pair gets the share of one person that was found in its bin, so that nothing is wrong any more; then people
    are drawn with replacement, and the error among those is measured.
    """
    said, met, _ = reliability(p, pairs.same, pairs.weights())
    right = met[np.abs(p[:, None] - said).argmin(axis=1)]
    errors = []
    for times in islice(bootstrap.draws(*pairs.people), 1, 1 + draws):
        often = times[pairs.first] * np.where(pairs.same, 1, times[pairs.second])
        weights = pairs.weights() * often
        for kind in (pairs.same, ~pairs.same):
            weights[kind] *= 0.5 / weights[kind].sum()
        errors.append(calibration_error(right, pairs.same, weights))
    return float(np.mean(errors))


def in_domain(name: str, sets: Sequence[Embeddings]) -> list[Verifier]:
    """Fitted on half of the people, and measured on the others; what was fitted."""
    pairs = labelled(sets)
    rows, pooled, met, said, fitted = [], [], [], [], []
    for half, others in splits(pairs):
        verifier = Verifier.fit(pairs.of(half))
        fitted.append(verifier)
        left = pairs.of(others)
        p, same, weights = probabilities(verifier, left), left.same, left.weights()
        rows.append((calibration_error(p, same, weights), least(p, left), log_loss(p, same, weights)))
        pooled.append((p, same, weights))
        met.append([realised(verifier, left, rate) for rate in RATES])
        said.append([(verifier.at(rate).rate_low, verifier.at(rate).rate_high) for rate in RATES])
    error, perfect, loss = np.mean(rows, axis=0)
    p, same, weights = (np.concatenate(part) for part in zip(*pooled, strict=True))
    together = calibration_error(p, same, weights)
    rates, spans = np.array(met, float), np.mean(said, axis=0)
    cells = [
        f"{rates[:, i, 0].mean():.2g} ({rates[:, i, 0].min():.2g}–{rates[:, i, 0].max():.2g}) | "
        f"{spans[i, 0]:.2g}–{spans[i, 1]:.2g} | {int(rates[:, i, 1].sum())} of {SPLITS}"
        for i in range(len(RATES))
    ]
    print(f"| {name} | {error:.3f} | {perfect:.3f} | {together:.3f} | {loss:.3f} | {' | '.join(cells)} |", flush=True)
    return fitted


def across(looked: dict[str, Looked], fitted: dict[str, list[Verifier]]) -> None:
    """Fitted on all people of the other sets, then on half of this set's people; measured on its other half."""
    for name, here in looked.items():
        others = [one.made for other, one in looked.items() if other != name]
        foreign, pairs = Verifier.fit(labelled(others), cameras=False), labelled([here.made])
        rows = []
        for own, (_, left_out) in zip(fitted[name], splits(pairs), strict=True):
            left = pairs.of(left_out)
            for verifier in (foreign, own):
                p = probabilities(verifier, left)
                error, loss = (f(p, left.same, left.weights()) for f in (calibration_error, log_loss))
                rows.append((error, loss, realised(verifier, left, RATES[0])[0]))
        table = np.array(rows).reshape(SPLITS, 2, 3).mean(axis=0)
        cells = " | ".join(f"{value:.2g}" if i == 2 else f"{value:.3f}" for row in table for i, value in enumerate(row))
        print(f"| {name} | {cells} |", flush=True)


def doubts(looked: Sequence[Looked]) -> None:
    """What looking at quality changes, by what the pairs are of."""
    curve_pairs, pairs = labelled([one.made for one in looked]), labelled([one.both for one in looked])
    measured = np.concatenate([one.quality for one in looked])
    natural = np.concatenate([one.natural for one in looked])
    found: dict[str, list[tuple[float, ...]]] = {}
    for half, others in list(splits(pairs))[:3]:
        verifier = Verifier.fit(curve_pairs.of(half), cameras=False).doubting(pairs.of(half), measured, natural)
        assert verifier.doubt is not None
        left = pairs.of(others)
        evidence = verifier.doubt.evidence(measured[left.rows[:, 0]], measured[left.rows[:, 1]])
        crops = natural[left.rows].sum(axis=1)
        poorest = evidence < np.quantile(evidence[crops == 2], 0.02)
        kinds = {
            "two crops as taken": crops == 2,
            "of these, the 2 % of least evidence": (crops == 2) & poorest,
            "one gone wrong": crops == 1,
            "both gone wrong": crops == 0,
        }
        answered = verifier.settles(evidence)
        for name, chosen in kinds.items():
            some = left[chosen]
            same, weights = some.same, some.weights()
            row: tuple[float, ...] = ()
            for share in (1.0, evidence[chosen]):
                p = verifier.probability(some.distances, None, share)
                row += (log_loss(p, same, weights), calibration_error(p, same, weights))
            p = verifier.probability(some.distances)
            given = answered[chosen]
            wrong = (p >= 0.5) != same
            row += (1 - np.average(given, weights=weights), np.average(wrong, weights=weights))
            row += (np.average(wrong[given], weights=weights[given]) if given.any() else np.nan,)
            found.setdefault(name, []).append(row)
    for name, rows in found.items():
        a, b, c, d, none, before, after = np.mean(rows, axis=0)
        print(f"| {name} | {a:.3f} | {b:.3f} | {c:.3f} | {d:.3f} | {none:.1%} | {before:.1%} | {after:.1%} |")


def doubt(embedder: Embedder, name: str, root: Path, kept: Path) -> None:
    """Each kind of curve with each doubt, on people from before the last 100."""
    crops = evaluation.hold_out(data.read(root), PEOPLE)[0]
    people = np.random.default_rng(1).permutation(sorted({str(crop.pid) for crop in crops}))[: MANY + 50]
    chosen = [crop for crop in crops if crop.pid in set(people)]
    path = kept / f"{root.parent.name}-{root.name}-{embedder.fingerprint}-{MANY}.npz"
    if not path.exists():
        kept.mkdir(parents=True, exist_ok=True)
        files.save(embedder(chosen), path)
    pairs = labelled([files.load(path)]).few(MEASURED)
    found: dict[tuple[str, float], list[tuple[float, float]]] = {}
    for seed in range(8):
        learnt = np.random.default_rng(seed).permutation(sum(pairs.people)) < 50
        half, left = pairs.of(learnt), pairs.of(~learnt)
        for kind, share in product(KINDS, DOUBTS):
            p = sigmoid(curve_of(half, kind, share).log_odds(left.distances))
            errors = calibration_error(p, left.same, left.weights()), log_loss(p, left.same, left.weights())
            found.setdefault((kind, share), []).append(errors)
    for kind in KINDS:
        cells = [f"{error:.3f} / {loss:.3f}" for error, loss in (np.mean(found[kind, s], axis=0) for s in DOUBTS)]
        print(f"| {name} | {kind} | {' | '.join(cells)} |", flush=True)


def speed(model: str) -> None:
    """Pairs a second on one core: of predict, each picture in one pair only, and of the model alone, in turn."""
    crops = list(np.random.default_rng(0).integers(0, 256, (256, 128, 64, 3), dtype=np.uint8))
    reid = ReId(model, threads=1)
    ready = np.stack([reid.embedder.preprocess.look(crop)[0] for crop in crops[:16]])
    kinds: list[Callable[[], object]] = [
        lambda: reid.predict(crops[:128], crops[128:]),
        lambda: [reid.embedder.vectors(ready, 1) for _ in range(16)],
        lambda: reid.predict(crops[:1] * 255, crops[1:]),
    ]
    seconds = np.empty((4, len(kinds)))
    for row in seconds:
        for i, work in enumerate(kinds):
            started = time.perf_counter()
            work()
            row[i] = time.perf_counter() - started
    pairs, alone, one = np.array([128, 128, 255]) / seconds.min(axis=0)
    print(f"| {model} | {pairs:.0f} | {alone:.0f} | {pairs / alone:.0%} | {one:.0f} |", flush=True)


def draw(looked: dict[str, Looked], fitted: dict[str, list[Verifier]], path: Path) -> None:
    """The reliability diagram of people left out in all splits: fitted on the same cameras, and on the other sets."""
    name, here = next(iter(looked.items()))
    others = [one.made for other, one in looked.items() if other != name]
    foreign, pairs = Verifier.fit(labelled(others), cameras=False), labelled([here.made])
    lefts = [pairs.of(left_out) for _, left_out in splits(pairs)]
    same = np.concatenate([left.same for left in lefts])
    weights = np.concatenate([left.weights() for left in lefts])
    lines = []
    for colour, words, near, verifiers in (
        ("--accent", "same cameras", 0.5, fitted[name]),
        ("--hot", "other cameras", 0.83, [foreign] * SPLITS),
    ):
        p = np.concatenate([probabilities(v, left) for v, left in zip(verifiers, lefts, strict=True)])
        said, met, _ = reliability(p, same, weights)
        named = int(np.abs(said - near).argmin())
        marks = [charts.Mark(a, b, words if i == named else "") for i, (a, b) in enumerate(zip(said, met, strict=True))]
        lines.append(charts.Line(said, met, colour, marks=marks))
    x, y = charts.linear("said: probability of one person", 0, 1), charts.linear("share that was one person", 0, 1)
    svg = charts.line_chart(lines, x, y, f"Reliability on {name}: said against found", diagonal=True)
    svg = svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(">\n", f">\n{STYLE}\n", 1)
    with replacing(path) as partial:
        partial.write_text(svg + "\n", encoding="utf-8")


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data", type=Path)
    parse.add_argument("--model", nargs="*", default=[DEFAULT_MODEL])
    parse.add_argument("--embeddings", type=Path, default=Path("runs/embeddings"))
    parse.add_argument("--draw", type=Path, metavar="FILE.svg", help="the reliability diagram of the first model")
    parse.add_argument("--only-speed", action="store_true")
    parse.add_argument("--doubt", action="store_true")
    args = parse.parse_args()
    for model in args.model if args.doubt else []:
        embedder = Embedder(model)
        print(f"\n{model}\n\n| people of | curve | {' | '.join(map(str, DOUBTS))} |\n|---|---|{'---|' * len(DOUBTS)}")
        for name, place in SETS.items():
            doubt(embedder, name, args.data / place, args.embeddings)
    if args.doubt:
        return
    for number, model in enumerate([] if args.only_speed else args.model):
        embedder = Embedder(model)
        looked = {name: Looked(embedder, args.data / path, args.embeddings) for name, path in SETS.items()}
        print(f"\n{model}, other people of the same cameras\n")
        rates = "at 1e-2 | stated | within | at 1e-3 | stated | within"
        print(f"| people of | ECE | if perfect | pooled | log-loss | {rates} |")
        print(f"|{'---|' * 11}")
        fitted = {name: in_domain(name, [one.made]) for name, one in looked.items()}
        in_domain("all three, one curve", [one.made for one in looked.values()])
        print(f"\n{model}, fitted on the two others; then on 50 people of its own\n")
        print("| people of | ECE | log-loss | at 1e-2 | own: ECE | log-loss | at 1e-2 |\n|---|---|---|---|---|---|---|")
        across(looked, fitted)
        print(f"\n{model}, quality\n")
        print(
            "| pairs of | log-loss | ECE | quality seen: log-loss | ECE | no answer | wrong | wrong of the answered |"
        )
        print("|---|---|---|---|---|---|---|---|")
        doubts(list(looked.values()))
        if args.draw and not number:
            draw(looked, fitted, args.draw)
    print("\n| model | predict, pairs/s | the model alone, pairs/s | share | one against many, pairs/s |")
    print("|---|---|---|---|---|")
    for model in args.model:
        speed(model)


if __name__ == "__main__":
    main()
