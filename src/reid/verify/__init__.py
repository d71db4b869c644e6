"""Same or not: distances turned into probabilities, and into decisions at a wanted false-accept rate.

A `Verifier` is fitted once on labelled pairs, or on tracks, and saved as JSON that one can read and edit. Only it makes
probabilities; everything else in reid speaks of distances.
"""

from __future__ import annotations

from reid.verify.curve import Curve
from reid.verify.parts import Accepts, Correction, Doubt
from reid.verify.verifier import Verifier, beside

__all__ = ["Accepts", "Correction", "Curve", "Doubt", "Verifier", "beside"]
