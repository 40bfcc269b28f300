"""Events as the engine emits them, for the tests of those who listen."""

from datetime import UTC, datetime, timedelta
from typing import Any

from jobsd.domain.events import RunEnded
from jobsd.domain.outcome import Settlement
from jobsd.domain.run import ClaimedRun, Fence, RunId, RunState

NOW = datetime(2026, 3, 1, 2, 30, tzinfo=UTC)


def claimed(job: str = "daily_report", run: int = 42, **fields: Any) -> ClaimedRun:
    given = {
        "id": RunId(run),
        "job": job,
        "fence": Fence(1_000 + run),
        "attempt": 1,
        "retries": 0,
        "version": 2,
        "params": {},
        "dry_run": False,
        "slot_at": NOW,
        "due_at": NOW,
        "started_at": NOW,
        "lock_key": None,
        "seat": None,
    }
    return ClaimedRun(**{**given, **fields})


def completed(run: ClaimedRun, duration_s: float = 0.2) -> RunEnded:
    return RunEnded(run, Settlement(RunState.COMPLETED, "completed", "completed"), duration_s)


def failed(run: ClaimedRun, kind: str = "ValueError", error: str = "no such file") -> RunEnded:
    return RunEnded(run, Settlement(RunState.FAILED, "failed", "failed", kind, error), 0.2)


def deferred(run: ClaimedRun) -> RunEnded:
    due_at = NOW + timedelta(minutes=2)
    later = Settlement(RunState.QUEUED, "deferred", "requeued", "deferred", "the provider is busy", due_at=due_at)
    return RunEnded(run, later, 0.2)


def cancelled(run: ClaimedRun) -> RunEnded:
    return RunEnded(run, Settlement(RunState.CANCELLED, "cancelled", "cancelled", "cancelled", "not needed"), 0.2)


def retried(run: ClaimedRun) -> RunEnded:
    due_at = NOW + timedelta(seconds=30)
    again = Settlement(RunState.QUEUED, "failed", "retry", "ValueError", "no such file", due_at=due_at, retry=True)
    return RunEnded(run, again, 0.2)
