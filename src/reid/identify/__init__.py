"""Who is it: people enrolled with labelled crops, and queries told who of them they show, or nobody that is known.

`Identifier` learns the people and how far strangers stay from them; `KINDS` are the ways to tell people apart. Fitting
the kinds "svm" and "logistic" takes scikit-learn; identifying, also from a saved file, takes NumPy alone.
"""

from __future__ import annotations

from reid.identify.calibration import Calibration, Threshold
from reid.identify.identifier import Candidate, Identifier, Identity
from reid.identify.kinds import KINDS, Learnt
from reid.identify.queries import Together

__all__ = ["KINDS", "Calibration", "Candidate", "Identifier", "Identity", "Learnt", "Threshold", "Together"]
