"""What a job raises to steer its run, wherever that comes out of it."""

import pickle
from datetime import timedelta
from typing import Any

import pytest

from jobsd.domain.outcome import Cancelled, Deferred, Outcome
from jobsd.engine.executors.base import execute
from jobsd.sdk import RetryLater
from tests.engine.executors.bench import HANDLERS, Bench, failed

KINDS = [("steers", None), ("steers", "process"), ("steers_plainly", None)]


async def run(bench: Bench, name: str, isolation: str | None = None, **params: Any) -> Outcome:
    return await execute(bench.execution(handler=f"{HANDLERS}:{name}", isolation=isolation, params=params))


@pytest.mark.req("P8", "D7")
@pytest.mark.parametrize("name, isolation", KINDS, ids=["loop", "process", "plain"])
async def test_a_job_steers_its_run_from_wherever_it_runs(bench: Bench, name: str, isolation: str | None) -> None:
    cancelled = await run(bench, name, isolation, how="cancel")
    gave_up = failed(await run(bench, name, isolation, how="give up"))
    later = await run(bench, name, isolation, how="later")

    assert isinstance(cancelled, Cancelled)
    assert cancelled.reason == "the course is gone"
    assert (gave_up.kind, gave_up.final) == ("GiveUp", True)
    assert gave_up.error.startswith("GiveUp: the source is malformed\n\nTraceback")
    assert isinstance(later, Deferred)
    assert (later.delay, later.reason) == (timedelta(minutes=2), "the provider is busy")


@pytest.mark.req("P8")
@pytest.mark.parametrize(
    "how, expected",
    [
        ("later in seconds", Deferred(timedelta(seconds=1.5), "the job asked to be run later")),
        ("in a group", Deferred(timedelta(seconds=9), "c")),
        ("beside a cancellation", Cancelled("gone")),
        ("silly", Cancelled("the job says that it is not needed any more")),
    ],
)
async def test_steering_counts_inside_groups_and_with_nothing_said(bench: Bench, how: str, expected: Outcome) -> None:
    assert await run(bench, "steers", how=how) == expected


@pytest.mark.req("P8", "B8")
async def test_a_failure_is_not_lost_behind_a_delay_beside_it(bench: Bench) -> None:
    beside = failed(await run(bench, "steers", how="beside a failure"))
    given_up = failed(await run(bench, "steers", how="given up beside a failure"))

    assert (beside.kind, beside.final) == ("ExceptionGroup", False)
    assert "ValueError: real" in beside.error
    assert (given_up.kind, given_up.final) == ("GiveUp", True)
    assert "ValueError: real" in given_up.error


@pytest.mark.req("P8", "B8")
async def test_steering_counts_as_the_cause_of_another_error_but_not_as_what_was_merely_handled(bench: Bench) -> None:
    wrapped = await run(bench, "steers_from_a_cause")
    giving_up = failed(await run(bench, "gives_up_from_a_cause"))
    handled = failed(await run(bench, "fails_after_a_cancellation"))

    assert wrapped == Deferred(timedelta(seconds=7), "the provider is busy")
    assert giving_up.final
    assert "invalid literal for int()" in giving_up.error, "what it was raised from is told too"
    assert (handled.kind, handled.final) == ("ValueError", False)


@pytest.mark.req("P8", "P11")
async def test_steering_from_a_task_of_the_job_comes_through(bench: Bench) -> None:
    assert await run(bench, "steers_in_a_task") == Deferred(timedelta(seconds=3), "busy")


@pytest.mark.parametrize("delay", [-1, timedelta(days=-1), float("nan"), float("inf"), timedelta(days=367), 1e12])
def test_a_delay_that_makes_no_sense_is_refused_where_it_is_raised(delay: Any) -> None:
    with pytest.raises(ValueError, match="expected a delay of 0 seconds to 366 days, got"):
        RetryLater(delay)


def test_a_delay_survives_the_way_between_processes_of_a_job() -> None:
    sent: RetryLater = pickle.loads(pickle.dumps(RetryLater(5, "busy")))

    assert (sent.delay, str(sent)) == (timedelta(seconds=5), "busy")
