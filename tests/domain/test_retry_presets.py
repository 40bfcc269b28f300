"""Retries declared by a name: as the systems that jobsd replaces had them."""

from typing import Any

import pytest

from jobsd.domain.job import JobDefinition


def declared(**keys: Any) -> JobDefinition:
    return JobDefinition.model_validate({"name": "work", "command": ["true"], **keys})


@pytest.mark.req("F2")
def test_the_queues_retries_are_three_that_wait_two_to_the_nth_seconds_up_to_thirty() -> None:
    policy = declared(retry="queue").retry_policy

    assert policy.attempts == 3
    assert [policy.delay_s(retry) for retry in range(1, 7)] == [2, 4, 8, 16, 30, 30]


@pytest.mark.req("E3")
@pytest.mark.parametrize(
    "priority, retries",
    [("critical", 3), ("high", 2), ("medium", 2), ("low", 1), (0, 3), (2, 3), (3, 2), (7, 2), (8, 1), (9, 1)],
)
def test_retries_by_priority_are_more_the_more_urgent_the_job_is_and_wait_exponentially(
    priority: str | int, retries: int
) -> None:
    policy = declared(retry="by-priority", priority=priority).retry_policy

    assert (policy.attempts, policy.backoff) == (retries, "exponential")
    assert [policy.delay_s(retry) for retry in (1, 2, 3)] == [1, 2, 4]


@pytest.mark.req("E3")
def test_a_job_that_says_no_priority_has_the_retries_of_medium() -> None:
    assert declared(retry="by-priority").retry_policy.attempts == 2


def test_a_preset_is_stored_spelt_out_so_that_the_definition_reads_back_the_same() -> None:
    job = declared(retry="by-priority", priority="critical")

    again = JobDefinition.model_validate(job.public())

    assert again.hash == job.hash
    assert job.public()["retry"]["attempts"] == 3
