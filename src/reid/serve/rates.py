"""How often one caller may ask: a bucket of tokens each (Turner 1986), of which the oldest are forgotten."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

MOST = 10_000  # callers remembered


class Rates:
    """Lets each caller through `rate` times a second, and `burst` times at once.

    Args:
        rate: a second; 0 for no limit.
        burst: at least 1.
        clock: seconds that never go back.

    >>> rates = Rates(1, 2, clock=lambda: 0.0)
    >>> [rates.late("anna") for _ in range(3)]
    [0.0, 0.0, 1.0]
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic):
        self._rate, self._burst, self._clock = rate, burst, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def late(self, caller: str) -> float:
        """0 where the caller may go on; else in how many seconds they may."""
        if not self._rate:
            return 0.0
        now = self._clock()
        left, then = self._left.pop(caller, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1
        self._left[caller] = (left - allowed, now)
        if len(self._left) > MOST:
            self._left.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate
