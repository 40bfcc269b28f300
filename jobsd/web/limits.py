"""How often somebody may ask: a bucket of tokens for each of them, in memory, filled as time goes by."""

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from time import monotonic

from aiohttp import web

MOST_BUCKETS = 10_000  # whoever was away longest is forgotten first
BURST_S = 5  # a quiet client may ask at once for what it may ask in so long
FAILURES, FAILURES_REFILL_PER_S = 10, 1 / 6  # tokens that are no good, from one neighbourhood
GOOD_S = 60.0  # a token that was good within this is never held up by somebody else's bad ones


@dataclass(frozen=True, slots=True)
class Quota:
    """What is left to somebody: requests, and seconds until one more is granted and until the bucket is full."""

    granted: bool
    limit: int
    remaining: int
    next_s: float
    full_s: float

    @property
    def headers(self) -> Mapping[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(math.ceil(self.full_s)),
        }


QUOTA = web.RequestKey("quota", Quota)


class Buckets:
    """A bucket of `size` for each key, filled at `per_s`."""

    def __init__(self, per_s: float, size: int, clock: Callable[[], float] = monotonic) -> None:
        self.per_s, self.size, self._clock = per_s, size, clock
        self._left: dict[Hashable, tuple[float, float]] = {}  # what was left, and when; the latest used last

    def take(self, key: Hashable, count: int = 1) -> Quota:
        """Take `count` if they are there; 0 only looks."""
        now = self._clock()
        left, at = self._left.pop(key, (float(self.size), now))
        left = min(float(self.size), left + (now - at) * self.per_s)
        granted = left >= max(count, 1)
        if granted:
            left -= count
        self._left[key] = (left, now)
        if len(self._left) > MOST_BUCKETS:
            del self._left[next(iter(self._left))]
        next_s = 0.0 if left >= 1 else (1 - left) / self.per_s
        return Quota(granted, self.size, int(left), next_s, (self.size - left) / self.per_s)


class Limits:
    """The limits of one daemon: requests by token or neighbourhood, and tokens that are no good by neighbourhood."""

    def __init__(self, per_s: int, clock: Callable[[], float] = monotonic) -> None:
        self.requests = Buckets(per_s, per_s * BURST_S, clock)
        self._failures = Buckets(FAILURES_REFILL_PER_S, FAILURES, clock)
        self._good: dict[bytes, float] = {}  # by hash; says only whom not to hold up, never whom to let in
        self._clock = clock

    def held_up(self, neighbourhood: str, digest: bytes) -> Quota | None:
        """The quota of a neighbourhood that showed too many bad tokens; None when this one may be looked at."""
        if self._clock() < self._good.get(digest, -math.inf):
            return None
        quota = self._failures.take(neighbourhood, 0)
        return None if quota.granted else quota

    def was_bad(self, neighbourhood: str, digest: bytes) -> None:
        self._good.pop(digest, None)
        self._failures.take(neighbourhood)

    def was_good(self, digest: bytes) -> None:
        self._good.pop(digest, None)
        self._good[digest] = self._clock() + GOOD_S
        if len(self._good) > MOST_BUCKETS:
            del self._good[next(iter(self._good))]


LIMITS = web.AppKey("limits", Limits)
