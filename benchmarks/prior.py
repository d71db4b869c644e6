"""What the space-time priors add on Market-1501's validation people, alone and together with re-ranking.

    python benchmarks/prior.py MARKET1501 [--model NAME] [--beside FILE.onnx FILE.xml] [--embeddings FOLDER] [--more]

MARKET1501 is the folder that holds `bounding_box_train`; its last 100 people are searched, the others teach the
priors. The weight is fitted on 100 people more, with a prior learnt without them, and the prior is then learnt again
from everybody but those searched. Models may be any that `--model` takes; one that does not say how it wants its
pictures is fed as torchreid's are. Embeddings are kept in the folder, by the model's fingerprint, and read from there
the next time. Vectors are brought to unit length. Intervals are 95 %, by bootstrap over the people searched.

A model that was trained on the people the weight is fitted on errs less on them than on others, which could make the
weight too small; --more prints the best weight for the people searched beside it. It also adds the prior to re-ranked
distances instead, with a weight of its own, and puts st-ReID's into the graph: into all distances among queries and
gallery before k-reciprocal neighbours are looked for, as st-ReID does, and as "both" does with ours.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from reid import data, distance, evaluation, files, rerank
from reid.embed import DEFAULT_MODEL, Embedder
from reid.errors import ModelError
from reid.evaluation import evaluate_distances, hold_out
from reid.rerank import KReciprocal
from reid.spacetime import PaperPrior, TransitionPrior, fit_weight
from reid.types import Crop, Embeddings, Vectors

PEOPLE = 100
Known = Mapping[str, tuple[Crop, Vectors]]


def options(parse: argparse.ArgumentParser) -> None:
    parse.add_argument("--model", default=DEFAULT_MODEL)
    parse.add_argument("--beside", nargs="*", default=[], metavar="FILE", help="further models")
    parse.add_argument("--embeddings", type=Path, metavar="FOLDER")


def load(folder: str, kept: Path | None, model: str) -> Known:
    """Every training crop by file name, as it is read now, and its unit vector."""
    crops = data.read(folder, split="train")
    embed = opened(model)
    path = kept / f"{embed.name}-{embed.fingerprint}.npz" if kept else None
    if path is not None and path.exists():
        embedded = files.load(path)
    else:
        embedded = embed(crops)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            files.save(embedded, path)
    rows = {crop.name: i for i, crop in enumerate(embedded.crops)}
    unit = distance.normalise(embedded.vectors)
    return {crop.name: (crop, unit[rows[crop.name]]) for crop in crops}


def opened(model: str) -> Embedder:
    try:
        return Embedder(model)
    except ModelError:  # it does not say how it wants its pictures
        return Embedder(model, like="torchreid")


class Searched:
    """The people searched, those the weight is fitted on, and what was learnt from whom."""

    def __init__(self, known: Known):
        def embedded(crops: list[Crop]) -> Embeddings:
            return Embeddings(np.stack([known[c.name][1] for c in crops]), tuple(crops), "unit")

        self.train, *searched = hold_out([crop for crop, _ in known.values()], PEOPLE)
        self.learnt, *fitted = hold_out(self.train, PEOPLE)
        self.query, self.gallery = map(embedded, searched)
        self.fit_query, self.fit_gallery = map(embedded, fitted)
        self.partial = TransitionPrior.fit(self.learnt)
        weighted = self.partial.weighted(self.fit_query, self.fit_gallery, "squared")
        prior = TransitionPrior.fit(self.train)
        self.prior = replace(prior, weight=weighted.weight, model=weighted.model, metric=weighted.metric)

    def found(self, reranking: KReciprocal | None = None, prior: TransitionPrior | None = None) -> evaluation.Distances:
        return evaluation.distances(self.query, self.gallery, reranking, prior=prior)()

    def scores(self, distances: evaluation.Distances) -> list[float]:
        found = evaluate_distances(distances, self.query.crops, self.gallery.crops).metrics
        return [found[name] for name in ("rank-1", "mAP", "mINP")]


def with_prior(known: Known) -> list[float]:
    """Rank-1, mAP and mINP with our prior, and with it in the graph."""
    searched = Searched(known)
    scores = [searched.scores(searched.found(settings, searched.prior)) for settings in (None, rerank.PAPER)]
    return scores[0] + scores[1]


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
    options(parse)
    parse.add_argument("--more", action="store_true")
    args = parse.parse_args()
    for model in (args.model, *args.beside):
        searched = Searched(load(args.data, args.embeddings, model))
        counted = f"{len(searched.query)} queries, {len(searched.gallery)} in the gallery"
        print(f"\n{Path(model).stem}: {counted}; priors from {len(searched.prior.learnt_from)} people\n")
        print("| distances | rank-1 | mAP | mINP | weight |\n|---|---|---|---|---|")
        table(searched)
        if args.more:
            more(searched)


def show(searched: Searched, name: str, distances: evaluation.Distances, weight: float | None = None) -> None:
    """A row of the table."""
    report = evaluate_distances(distances, searched.query.crops, searched.gallery.crops, intervals=True)
    values = []
    for key in ("rank-1", "mAP", "mINP"):
        low, high = report.intervals[key]
        values.append(f"{100 * report.metrics[key]:.1f} ({100 * low:.1f}–{100 * high:.1f})")
    print(f"| {name} | {' | '.join(values)} | {'' if weight is None else f'{weight:.3f}'} |", flush=True)


def table(searched: Searched) -> None:
    query, gallery, prior = searched.query, searched.gallery, searched.prior
    alone = KReciprocal(alone=True)
    show(searched, "visual", searched.found())
    show(searched, "+ st-ReID's prior", whole(PaperPrior.fit(searched.train), query, gallery))
    show(searched, "+ our prior", searched.found(None, prior), prior.weight)
    show(searched, "re-ranked", searched.found(rerank.PAPER))
    show(searched, "re-ranked, each query alone", searched.found(alone))
    show(searched, "both", searched.found(rerank.PAPER, prior), prior.weight)
    show(searched, "both, each query alone", searched.found(alone, prior), prior.weight)


def more(searched: Searched) -> None:
    query, gallery = searched.query, searched.gallery
    best = searched.prior.weighted(query, gallery, "squared")
    show(searched, "+ our prior, best weight for them", whole(best, query, gallery), best.weight)
    reranked = rerank.k_reciprocal(query.vectors, gallery.vectors)
    ratios = searched.partial.log_ratio(searched.fit_query.crops, searched.fit_gallery.crops)
    fitted = rerank.k_reciprocal(searched.fit_query.vectors, searched.fit_gallery.vectors)
    weight = fit_weight(fitted, ratios, searched.fit_query.crops, searched.fit_gallery.crops)
    after = reranked - np.float32(weight) * searched.prior.log_ratio(query.crops, gallery.crops)
    show(searched, "re-ranked, our prior added after", after, weight)
    every = together(query, gallery)
    visual = distance.pairwise(every.vectors, every.vectors, "squared")
    np.testing.assert_allclose(graph(visual, len(query)), reranked, atol=1e-4)
    show(searched, "both, with st-ReID's prior", graph(whole(PaperPrior.fit(searched.train), every, every), len(query)))


if __name__ == "__main__":
    main()
