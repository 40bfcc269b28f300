"""Runs that nobody hears of any more: what is decided about one, and how people are told. Pure."""

from dataclasses import replace
from datetime import datetime, timedelta

from jobsd.domain.duration import format_duration
from jobsd.domain.lifecycle import SettlePolicy, fingerprint, settle
from jobsd.domain.outcome import AlertRow, Failed, Settlement
from jobsd.domain.run import ClaimedRun


def given_up(run: ClaimedRun, policy: SettlePolicy, error: str, now: datetime) -> Settlement:
    """Fail an attempt that cannot be ended, since another program does its work. A declared retry applies.

    People are told in any case: somewhere that program may still be at it.
    """
    settlement = settle(run, policy, Failed("stale", error), now)
    return replace(settlement, alert=alert_of(run.job, run.id, error, run.attempt))


def alert_of(job: str, run: int, error: str, attempt: int) -> AlertRow:
    """JOB_STALE, one open alert a job."""
    return AlertRow(
        type="JOB_STALE",
        fingerprint=fingerprint("JOB_STALE", job),
        summary=f"{job}: {error}",
        job=job,
        run=run,
        detail={"attempt": attempt, "kind": "stale", "error": error},
    )


def silence(for_: timedelta, allowed: timedelta) -> str:
    """The words for an attempt that says nothing."""
    return f"nothing was heard of it for {_span(for_)}; more than {_span(allowed)} is stale"


def lateness(for_: timedelta, allowed: timedelta) -> str:
    """The words for an attempt that goes on and on."""
    return f"it has been running for {_span(for_)}, and may for {_span(allowed)}"


def _span(span: timedelta) -> str:
    return format_duration(timedelta(seconds=round(span.total_seconds())))
