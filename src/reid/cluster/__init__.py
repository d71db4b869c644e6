"""How many people are there: crops without names, sorted into identities.

Crops are points, or the mean of a tracklet is one (must-link). Two points are alike as far as their k-reciprocal
neighbourhoods overlap (`reid.rerank`); points that were in two places of one camera at one moment are never put
together (cannot-link). Memory grows in proportion to the number of points.
"""

from __future__ import annotations

from reid.cluster.agreement import Agreement, agreement
from reid.cluster.density import dbscan
from reid.cluster.identities import CANNOT_LINK, METHODS, CannotLink, Clusters, Method, cluster
from reid.cluster.linkage import average_linkage
from reid.cluster.points import Points, points_of
from reid.cluster.silhouette import silhouette

__all__ = [
    "CANNOT_LINK",
    "METHODS",
    "Agreement",
    "CannotLink",
    "Clusters",
    "Method",
    "Points",
    "agreement",
    "average_linkage",
    "cluster",
    "dbscan",
    "points_of",
    "silhouette",
]
