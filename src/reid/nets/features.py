"""What every network returns, in training and in evaluation alike."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """One batch through a network.

    Attributes:
        embedding: (B, D) the vector that is stored, compared and searched.
        metric: (B, D') the vector that metric losses pull and push; often the embedding before its batch norm.
        logits: one (B, C) per classifier, none when the network was built for no classes.
        parts: one (B, D'') per body part, none for networks that look at the whole.
        pairs: (B, B) logits that two images of the batch show one person, from networks with a head for that.
        taught: (B, D) of unit length, what a teacher makes of the same pictures unchanged, where there is one; the loop
            adds it.
    """

    embedding: Tensor
    metric: Tensor
    logits: tuple[Tensor, ...] = ()
    parts: tuple[Tensor, ...] = ()
    pairs: Tensor | None = None
    taught: Tensor | None = None
