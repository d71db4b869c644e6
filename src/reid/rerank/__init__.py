"""Re-ranking with k-reciprocal neighbours (Zhong, Zheng, Cao, Li; CVPR 2017), exact and sparse; query expansion.

Two crops likely show the same person when each is among the other's nearest and their neighbourhoods overlap.

`k_reciprocal` and `blocks` re-rank a set of queries. Queries and gallery rows are all neighbours of each other then, so
an answer depends on which other queries there are: the method is transductive, and a figure obtained with it should
say so. `Reranker` keeps a gallery's part of the work and re-ranks each query as if it were the only one.

`similar_pairs` gives the Jaccard similarities of points among themselves, for putting them into clusters.

`expand` moves vectors towards their neighbours.
"""

from __future__ import annotations

from reid.rerank.alone import Reranker
from reid.rerank.encoding import PAPER, Extra, KReciprocal
from reid.rerank.expansion import expand
from reid.rerank.pairs import similar_pairs
from reid.rerank.together import blocks, k_reciprocal

__all__ = ["PAPER", "Extra", "KReciprocal", "Reranker", "blocks", "expand", "k_reciprocal", "similar_pairs"]
