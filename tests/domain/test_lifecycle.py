"""The one decision: what an outcome makes of its run."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import (
    Cancelled,
    Completed,
    Deferred,
    Failed,
    Interrupted,
    Lost,
    Outcome,
    RetryPolicy,
    TimedOut,
    without_trace,
)
from jobsd.domain.run import ClaimedRun, Fence, RunId, RunState

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TWICE = SettlePolicy(RetryPolicy(2, base_s=10, cap_s=15))
RESTARTABLE = SettlePolicy(restartable=True)


def run(retries: int = 0) -> ClaimedRun:
    return ClaimedRun(RunId(7), "work", Fence(3), retries + 1, retries, 2, {}, False, None, NOW, NOW, None, None)


@pytest.mark.req("B5", "C2", "P8")
@pytest.mark.parametrize(
    ("outcome", "policy", "state", "act", "alert"),
    [
        (Completed({"rows": 1}), SettlePolicy(), RunState.COMPLETED, "completed", None),
        (Failed("exit", "exited with 3"), SettlePolicy(), RunState.FAILED, "failed", "JOB_FAILED"),
        (Failed("exit", "exited with 3"), TWICE, RunState.QUEUED, "retry", None),
        (TimedOut(5, "did not end"), SettlePolicy(), RunState.FAILED, "failed", "JOB_FAILED"),
        (TimedOut(5, "did not end"), TWICE, RunState.QUEUED, "retry", None),
        (Interrupted("shutting down"), SettlePolicy(), RunState.FAILED, "failed", "JOB_FAILED"),
        (Interrupted("shutting down"), TWICE, RunState.FAILED, "failed", "JOB_FAILED"),
        (Interrupted("shutting down"), RESTARTABLE, RunState.QUEUED, "requeued", None),
        (Lost("node gone"), SettlePolicy(), RunState.FAILED, "failed", "JOB_LOST"),
        (Lost("node gone"), RESTARTABLE, RunState.QUEUED, "requeued", "JOB_LOST"),
        (Failed("exit", "exited with 3"), RESTARTABLE, RunState.FAILED, "failed", "JOB_FAILED"),
        (Failed("GiveUp", "GiveUp: useless", final=True), TWICE, RunState.FAILED, "failed", "JOB_FAILED"),
        (Cancelled("not needed"), TWICE, RunState.CANCELLED, "cancelled", None),
        (Deferred(timedelta(seconds=5), "busy"), TWICE, RunState.QUEUED, "requeued", None),
    ],
)
def test_an_outcome_moves_its_run_as_declared_and_no_further(
    outcome: Outcome, policy: SettlePolicy, state: RunState, act: str, alert: str | None
) -> None:
    settlement = settle(run(), policy, outcome, NOW)

    assert (settlement.state, settlement.act) == (state, act)
    assert (settlement.alert.type if settlement.alert else None) == alert
    assert settlement.retry is (act == "retry")
    assert (settlement.due_at is not None) is (state is RunState.QUEUED)


@pytest.mark.req("P8", "E3", "F2")
def test_retries_end_where_they_were_declared_to_and_wait_as_declared() -> None:
    failed = Failed("exit", "exited with 3")

    settled = [settle(run(retries), TWICE, failed, NOW) for retries in range(3)]

    assert [each.state for each in settled] == [RunState.QUEUED, RunState.QUEUED, RunState.FAILED]
    assert [each.due_at and each.due_at - NOW for each in settled] == [
        timedelta(seconds=10),
        timedelta(seconds=15),
        None,
    ]


@pytest.mark.req("P8")
def test_a_run_that_asks_for_later_waits_as_long_as_it_said_and_keeps_its_retries() -> None:
    settlement = settle(run(retries=2), TWICE, Deferred(timedelta(minutes=2), "the provider is busy"), NOW)

    assert settlement.due_at == NOW + timedelta(minutes=2)
    assert (settlement.retry, settlement.error) == (False, "the provider is busy")


@pytest.mark.req("E3", "F2")
@pytest.mark.parametrize(
    ("backoff", "waits"),
    [("constant", [2, 2, 2, 2, 2]), ("linear", [2, 4, 6, 8, 10]), ("exponential", [2, 4, 8, 16, 30])],
)
def test_the_wait_grows_as_its_word_says_up_to_the_cap(backoff: str, waits: list[float]) -> None:
    policy = RetryPolicy(5, backoff, 2, 30)

    assert [policy.delay_s(retry) for retry in range(1, 6)] == waits


def test_a_very_late_retry_waits_no_longer_than_the_cap() -> None:
    assert RetryPolicy(100, "exponential", 1, 30).delay_s(100) == 30


@pytest.mark.req("C6", "A7")
def test_failures_of_one_kind_share_a_fingerprint_and_others_do_not() -> None:
    one, same, other = (
        settle(run(), SettlePolicy(), Failed(kind, text), NOW).alert
        for kind, text in (("exit", "exited with 3"), ("exit", "exited with 4"), ("timeout", "late"))
    )

    assert one and same and other
    assert one.fingerprint == same.fingerprint != other.fingerprint


@pytest.mark.req("C6")
def test_an_alert_tells_the_whole_error_in_a_line_and_leaves_the_traceback_to_the_attempt() -> None:
    error = "BadInput: nothing was imported:\na.csv:3: expected a score\n\nTraceback (most recent call last):\n  File …"

    settlement = settle(run(), SettlePolicy(), Failed("BadInput", error), NOW)

    assert settlement.error == error
    assert settlement.alert is not None
    assert settlement.alert.summary == "work: BadInput: nothing was imported: a.csv:3: expected a score"
    assert without_trace("plain") == "plain"
