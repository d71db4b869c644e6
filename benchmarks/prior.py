"""What the space-time priors add on Market-1501's validation people, alone and together with re-ranking.

    python benchmarks/prior.py MARKET1501 --embeddings crops.npz [--model NAME]

MARKET1501 is the folder that holds `bounding_box_train`; its last 100 people are searched, the others teach the
priors. The weight is fitted on 100 people more, with a prior learnt without them, and the prior is then learnt again
from everybody but those searched. The embeddings are read where the file exists, and computed with the model and
written to it where not; vectors are brought to unit length.

A model that was trained on the people the weight is fitted on errs less on them than on others, which could make the
weight too small: the best weight for the people searched is printed beside it.

"in the graph" puts the prior into all distances among queries and gallery before k-reciprocal neighbours are looked
for, as st-ReID does; "after" adds it to re-ranked distances, with a weight of its own.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid import data, distance, files, rerank
from reid.embed import DEFAULT_MODEL, Embedder
from reid.evaluation import evaluate_distances, hold_out
from reid.spacetime import PaperPrior, TransitionPrior, fit_weight
from reid.types import Crop, Embeddings, Vectors

PEOPLE = 100


def load(folder: str, path: Path | None, model: str) -> dict[str, tuple[Crop, Vectors]]:
    """Every training crop by file name, as it is read now, and its unit vector."""
    crops = data.read(folder, split="train")
    if path is not None and path.exists():
        embedded = files.load(path)
    else:
        embedded = Embedder(model)(crops)
        if path is not None:
            files.save(embedded, path)
    rows = {crop.name: i for i, crop in enumerate(embedded.crops)}
    unit = distance.normalise(embedded.vectors)
    return {crop.name: (crop, unit[rows[crop.name]]) for crop in crops}


def together(query: Embeddings, gallery: Embeddings) -> Embeddings:
    return Embeddings(np.concatenate([query.vectors, gallery.vectors]), (*query.crops, *gallery.crops), query.model)


def whole(prior: TransitionPrior | PaperPrior, query: Embeddings, gallery: Embeddings) -> Vectors:
    return np.concatenate([block for _, block in prior.blocks(query, gallery)])


def graph(distances: Vectors, queries: int, settings: rerank.KReciprocal = rerank.PAPER) -> Vectors:
    """k-reciprocal re-ranking of (N, N) distances, the first rows queries, to (queries, N − queries)."""
    scaled = distances / distances.max(axis=1, keepdims=True)
    order = np.argsort(scaled, axis=1, kind="stable")

    def mutual(k: int) -> Vectors:
        listed = np.zeros_like(scaled)
        np.put_along_axis(listed, order[:, : k + 1], 1, axis=1)
        return listed * listed.T

    near, half = mutual(settings.k1), mutual(settings.half)
    joins = (near > 0) & ((near @ half.T) * near > 2 / 3 * half.sum(axis=1))
    wide = near + joins.astype(np.float32) @ half
    encoding = np.where(wide > 0, np.exp(-scaled), 0)
    encoding /= encoding.sum(axis=1, keepdims=True)
    encoding = encoding[order[:, : settings.k2]].mean(axis=1)
    out = settings.weight * scaled[:queries, queries:]
    for i, row in enumerate(out):
        used = encoding[i] > 0
        shared = np.minimum(encoding[queries:, used], encoding[i, used]).sum(axis=1)
        row += (1 - settings.weight) * (1 - shared / (2 - shared))
    return out


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("data")
    parse.add_argument("--embeddings", type=Path)
    parse.add_argument("--model", default=DEFAULT_MODEL)
    args = parse.parse_args()
    known = load(args.data, args.embeddings, args.model)

    def embeddings(crops: list[Crop]) -> Embeddings:
        return Embeddings(np.stack([known[c.name][1] for c in crops]), tuple(crops), "unit")

    train, *searched = hold_out([crop for crop, _ in known.values()], PEOPLE)
    learnt, *fitted = hold_out(train, PEOPLE)
    (query, gallery), (fit_query, fit_gallery) = map(embeddings, searched), map(embeddings, fitted)
    paper, partial, ours = PaperPrior.fit(train), TransitionPrior.fit(learnt), TransitionPrior.fit(train)

    def show(name: str, distances: Vectors, weight: float | None = None) -> None:
        """A row of the table."""
        m = evaluate_distances(distances, query.crops, gallery.crops).metrics
        values = " | ".join(f"{100 * m[key]:.1f}" for key in ("rank-1", "mAP", "mINP"))
        print(f"| {name} | {values} | {'' if weight is None else f'{weight:.3f}'} |", flush=True)

    print(f"{len(query)} queries, {len(gallery)} in the gallery; priors from {len({c.pid for c in train})} people\n")
    print("| distances | R1 | mAP | mINP | weight |\n|---|---|---|---|---|")
    show("visual", distance.pairwise(query.vectors, gallery.vectors))
    show("+ st-ReID's prior", whole(paper, query, gallery))
    for metric in ("euclidean", "squared"):
        fit = partial.weighted(fit_query, fit_gallery, metric)
        prior = replace(ours, weight=fit.weight, model=fit.model, metric=metric)
        show(f"+ prior, {metric}", whole(prior, query, gallery), prior.weight)
        best = ours.weighted(query, gallery, metric)
        show(f"+ prior, {metric}, best weight for them", whole(best, query, gallery), best.weight)

    reranked = rerank.k_reciprocal(query.vectors, gallery.vectors)
    every, queries = together(query, gallery), len(query)
    np.testing.assert_allclose(
        graph(distance.pairwise(every.vectors, every.vectors, "squared"), queries), reranked, atol=1e-4
    )
    show("re-ranked", reranked)
    fit_reranked = rerank.k_reciprocal(fit_query.vectors, fit_gallery.vectors)
    ratios = partial.log_ratio(fit_query.crops, fit_gallery.crops)
    weight = fit_weight(fit_reranked, ratios, fit_query.crops, fit_gallery.crops)
    show("re-ranked, prior after", reranked - np.float32(weight) * ours.log_ratio(query.crops, gallery.crops), weight)
    show("re-ranked, st-ReID's prior in the graph", graph(whole(paper, every, every), queries))
    show("re-ranked, prior in the graph", graph(whole(prior, every, every), queries), prior.weight)


if __name__ == "__main__":
    main()
