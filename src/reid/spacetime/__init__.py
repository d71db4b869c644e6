"""When and where: how long people take from one camera to another, as evidence beside what they look like.

`TransitionPrior` is the one to use; `PaperPrior` is st-ReID's, to compare with. Both are learnt from crops that name
person, camera and time, must be learnt from other people than those they are judged on, and yield distances, lower is
closer. `estimate_offsets` says how far apart the cameras' clocks are, `align_recordings` when recordings began.
"""

from __future__ import annotations

from reid.spacetime.axis import Axis, Lookup
from reid.spacetime.clocks import align_recordings, estimate_offsets
from reid.spacetime.paper import PaperPrior
from reid.spacetime.transitions import TransitionPrior, fit_weight

__all__ = ["Axis", "Lookup", "PaperPrior", "TransitionPrior", "align_recordings", "estimate_offsets", "fit_weight"]
