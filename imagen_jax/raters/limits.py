"""How often somebody may ask: a bucket of tokens for each rater and each guesser."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable


class RateLimit:
    """Allows each key `burst` requests at once and `per_sec` a second after that."""

    def __init__(
        self,
        burst: int,
        per_sec: float,
        max_keys: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Starts with full buckets.

        Args:
          burst: requests that a rested key may make at once, at least 1.
          per_sec: how fast its bucket fills.
          max_keys: keys that are remembered; the one not seen for longest is forgotten.
          clock: seconds.
        """
        self._burst, self._per_sec = burst, per_sec
        self._max_keys, self._clock = max_keys, clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allow(self, key: str) -> bool:
        """Returns whether a request of `key` is within the limit, and counts it."""
        now = self._clock()
        with self._lock:
            level, then = self._buckets.pop(key, (float(self._burst), now))
            level = min(self._burst, level + (now - then) * self._per_sec)
            allowed = level >= 1
            self._buckets[key] = (level - 1 if allowed else level, now)
            if len(self._buckets) > self._max_keys:
                self._buckets.popitem(last=False)
        return allowed
