"""The one decision: what an attempt's outcome makes of its run. Pure; `store.history` writes it, nobody else does."""

import hashlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import assert_never

from jobsd.domain.outcome import (
    AlertRow,
    Cancelled,
    Completed,
    Deferred,
    Failed,
    Interrupted,
    Lost,
    Outcome,
    RetryPolicy,
    Settlement,
    TimedOut,
    without_trace,
)
from jobsd.domain.run import ClaimedRun, RunState

SUMMARY_CHARS = 300


@dataclass(frozen=True, slots=True)
class SettlePolicy:
    """What the job declared that matters once an attempt is over."""

    retry: RetryPolicy = field(default_factory=RetryPolicy)
    restartable: bool = False


def settle(run: ClaimedRun, policy: SettlePolicy, outcome: Outcome, now: datetime) -> Settlement:  # noqa: PLR0911  # one for each outcome
    """Decide. A failure is retried only as declared (P8); a lost or interrupted run only if the job is restartable."""
    match outcome:
        case Completed(result, usage):
            return Settlement(RunState.COMPLETED, "completed", "completed", result=result, usage=usage)
        case Failed(kind, error, usage, final, by):
            act = "force_failed" if by else "failed"
            failed = Settlement(RunState.FAILED, "failed", act, kind, error, usage=usage, actor=by)
            return _with_alert(run, failed, "JOB_FAILED") if final else _failed(run, policy, failed, now)
        case Cancelled(reason, usage):
            return Settlement(RunState.CANCELLED, "cancelled", "cancelled", "cancelled", reason, usage=usage)
        case Deferred(delay, reason, usage):
            later = Settlement(RunState.QUEUED, "deferred", "requeued", "deferred", reason, usage=usage)
            return replace(later, due_at=now + delay)
        case TimedOut(_, error, _, usage):
            late = Settlement(RunState.FAILED, "timed_out", "failed", "timeout", error, usage=usage)
            return _failed(run, policy, late, now)
        case Interrupted(reason, _, usage):
            cut = Settlement(RunState.FAILED, "interrupted", "failed", "interrupted", reason, usage=usage)
            return _cut_short(run, policy, cut, "JOB_FAILED", now)
        case Lost(reason, evidence):
            lost = Settlement(RunState.FAILED, "lost", "failed", "lost", reason, evidence=evidence)
            return _cut_short(run, policy, lost, "JOB_LOST", now)
        case _:
            assert_never(outcome)


def _failed(run: ClaimedRun, policy: SettlePolicy, failed: Settlement, now: datetime) -> Settlement:
    """A declared retry puts the run back to queued; without one left it has failed, and people are told."""
    if run.retries >= policy.retry.attempts:
        return _with_alert(run, failed, "JOB_FAILED")
    wait = timedelta(seconds=policy.retry.delay_s(run.retries + 1))
    return replace(failed, state=RunState.QUEUED, act="retry", due_at=now + wait, retry=True)


def _cut_short(run: ClaimedRun, policy: SettlePolicy, cut: Settlement, alert: str, now: datetime) -> Settlement:
    """Not the job's fault: a restartable one is queued again and uses no retry, any other fails and alerts."""
    if not policy.restartable:
        return _with_alert(run, cut, alert)
    again = replace(cut, state=RunState.QUEUED, act="requeued", due_at=now)
    return _with_alert(run, again, alert) if alert == "JOB_LOST" else again


def _with_alert(run: ClaimedRun, settlement: Settlement, kind: str) -> Settlement:
    told = " ".join(without_trace(settlement.error or settlement.outcome).split())[:SUMMARY_CHARS]
    alert = AlertRow(
        type=kind,
        fingerprint=fingerprint(kind, run.job, settlement.error_kind),
        summary=f"{run.job}: {told}",
        job=run.job,
        run=run.id,
        detail={"attempt": run.attempt, "kind": settlement.error_kind, "error": told},
    )
    return replace(settlement, alert=alert)


def fingerprint(*parts: str | None) -> str:
    """What makes two alerts the same one: 16 hex digits of a SHA-256 over type, job and kind of error."""
    return hashlib.sha256("\0".join(part or "" for part in parts).encode()).hexdigest()[:16]
