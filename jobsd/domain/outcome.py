"""How an attempt ended, and what that makes of its run: data only. The decision itself is `lifecycle.settle`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from jobsd.domain.run import RunState


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution used and said, as far as its kind can tell. Memory in bytes, time in seconds of CPU."""

    output: str | None = None  # the tail of what it wrote
    exit_code: int | None = None
    peak_memory_bytes: int | None = None
    cpu_seconds: float | None = None


NO_USAGE = Usage()


@dataclass(frozen=True, slots=True)
class Completed:
    result: Any = None  # JSON
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Failed:
    kind: str  # a short stable word: the exception's class, "exit", "signal", "http", "sql", "result", "start", …
    error: str  # word for word
    usage: Usage = NO_USAGE
    final: bool = False  # no declared retry follows: the job gave up, or a person ended it
    by: str | None = None  # the person who ended it by force


def by_force(actor: str, reason: str) -> Failed:
    """A person ended the run: final, whatever retries its job declares."""
    return Failed("force_failed", f"failed by force, by {actor}: {reason}", final=True, by=actor)


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job found that nobody needs this run any more."""

    reason: str
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Deferred:
    """The job wants to be run again in a while: queued again, and no declared retry is used for it."""

    delay: timedelta
    reason: str
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The limit passed. `still_running` when the work ignored its cancellation: its lock and place stay taken."""

    after_s: float
    error: str
    still_running: bool = False
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The node ended it: a drain past its time, a second signal, an operator's act."""

    reason: str
    still_running: bool = False
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Lost:
    """Its node is gone, or could no longer prove that it held the lock. `evidence` is stored with the attempt."""

    reason: str
    evidence: Mapping[str, Any] = field(default_factory=dict)


_TRACE = re.compile(r"\n\n\s*(\+ Exception Group )?Traceback \(most recent call last\):")


def without_trace(error: str) -> str:
    """What an attempt's error says, without the traceback that stands below it."""
    return _TRACE.split(error, maxsplit=1)[0].strip()


@dataclass(frozen=True, slots=True)
class Committed:
    """The job's own transaction is durable, and its run completed in it: no outcome changes that any more."""

    ended_at: datetime
    result: Any  # JSON


Outcome = Completed | Failed | Cancelled | Deferred | TimedOut | Interrupted | Lost


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Retries after the first attempt, and the wait before each. Seconds."""

    attempts: int = 0
    backoff: str = "exponential"  # or "constant", "linear"
    base_s: float = 1.0
    cap_s: float = 30.0

    def delay_s(self, retry: int) -> float:
        """The wait before retry number `retry`, from 1."""
        if self.backoff == "constant":
            grown = self.base_s
        elif self.backoff == "linear":
            grown = self.base_s * retry
        else:
            grown = self.base_s * 2.0 ** min(retry - 1, 60)
        return min(grown, self.cap_s)


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One line for the outbox. Equal fingerprints are folded into one open alert."""

    type: str  # JOB_FAILED, JOB_LOST, …
    fingerprint: str
    summary: str
    job: str | None = None
    run: int | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Settlement:
    """What an outcome makes of its run: written once, in one transaction with attempt, audit and alert."""

    state: RunState
    outcome: str  # the attempt's: completed, failed, cancelled, deferred, timed_out, interrupted, lost
    act: str  # the audit's: completed, failed, force_failed, cancelled, retry, requeued
    error_kind: str | None = None
    error: str | None = None
    result: Any = None
    usage: Usage = NO_USAGE
    due_at: datetime | None = None  # when queued again
    retry: bool = False  # a declared retry is used up by this
    evidence: Mapping[str, Any] | None = None
    alert: AlertRow | None = None
    actor: str | None = None  # whose act it is; absent: that of the node which writes it
