"""Verification and open-set search, measured from distances: are these two one person, is this anybody we know?

A pair is accepted at a threshold when its distance is at most the threshold. Figures are named as in ISO/IEC 19795-1
and NIST's FRVT 1:N reports. fast-reid has the labels the wrong way round: what it prints as TPR@FPR is the share of
negative pairs rejected at the threshold that rejects that share of the positive ones. It is not the TPR here.

Who takes part: neither junk nor people who are unknown (nobody can say whether such a pair is one person; `evaluate`
ranks such a gallery row as wrong), and for each query neither the rows its protocol ignores nor its own picture. A
distractor makes negative pairs only, and is a person of its own.
"""

from __future__ import annotations

from reid.roc.cast import Weighting
from reid.roc.pairs import Point, Verification, verification
from reid.roc.search import Alarm, OpenSet, open_set

__all__ = ["Alarm", "OpenSet", "Point", "Verification", "Weighting", "open_set", "verification"]
