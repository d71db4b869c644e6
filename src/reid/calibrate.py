"""From labelled crops and a model to a calibration."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from reid import images, quality
from reid.embed import Embedder, Skipped
from reid.types import Crop, Embeddings
from reid.verify import Verifier
from reid.verify.pairs import MOST, Pairs, judged, labelled, thinned, tracked

WORSENED = 500  # crops of each set that are also looked at gone wrong
TRACKS = "tracks"


def calibrate(
    embedder: Embedder,
    sets: Sequence[Sequence[Crop]],
    protocol: str = "market1501",
    cameras: bool = True,
    about: str = "",
    on_skip: Callable[[Skipped], None] | None = None,
    progress: Callable[[int], None] | None = None,
    words: Mapping[tuple[str, str], bool] | None = None,
) -> Verifier:
    """Fit a Verifier on crops that the model was not trained on.

    Distances become probabilities by what crops as they are show; what poor quality does is learnt from 500 crops of
    each set, each as it is and gone wrong in one way (`quality.worsened`).

    Args:
        sets: crops; pairs are formed within each.
        protocol: which pairs count, a name from PROTOCOLS; or "tracks", for pairs that need no labels.
        cameras: also correct for two cameras; only where there is one set, since cameras of two may be called alike.
        about: what it is fitted on, in words, to be kept.
        on_skip: called for each picture that cannot be read; without it the first one raises.
        progress: called with the number of pictures looked at since the last call.
        words: which pairs of paths show one person, by somebody who looked; these count then, and no protocol does.

    Raises:
        DataError: there are no pairs of one kind, or too few people.
    """
    made = [embedder([crops[i] for i in thinned(crops, MOST)], progress, on_skip) for crops in sets]
    verifier = Verifier.fit(pairs(made, protocol, words), about, cameras)
    both, measured, natural = [], [], []
    for some in made:
        few = some[thinned(some.crops, WORSENED)]
        pictures = [images.read(crop.path) for crop in few.crops]
        worse = quality.worsened(pictures)
        vectors = np.concatenate([few.vectors, embedder.arrays(worse)])
        both.append(Embeddings(vectors, few.crops * 2, few.model))
        measured.append(quality.measures([*pictures, *worse]))
        natural.append(np.arange(2 * len(few)) < len(few))
        if progress:
            progress(len(few))
    return verifier.doubting(pairs(both, protocol, words), np.concatenate(measured), np.concatenate(natural))


def pairs(sets: Sequence[Embeddings], protocol: str, words: Mapping[tuple[str, str], bool] | None = None) -> Pairs:
    """The pairs that a protocol counts, "tracks" for those that tracks tell; or those that words are about."""
    if words is not None:
        return judged(sets, words)
    return tracked(sets) if protocol == TRACKS else labelled(sets, protocol)
