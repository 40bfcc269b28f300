"""Asking for a run: what is checked, what is stored, and what a key is good for."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.operations import enqueue, runs
from jobsd.operations.run_requests import RunRequest, TriggerRequest
from jobsd.registry.load import Registry
from jobsd.store.db import Db

ALICE = "unix:alice"


@pytest.mark.req("A6", "B9")
async def test_a_run_has_the_jobs_parameters_overlaid_by_the_requests(db: Db, registry: Registry) -> None:
    request = TriggerRequest(params={"region": "us", "day": 1}, reason="late data")

    run = await enqueue.trigger(db, registry, "nightly", request, ALICE)

    entries = await runs.audit(db, run.id)
    assert (run.state, run.params, run.actor, run.reason) == (
        "queued",
        {"region": "us", "day": 1},
        ALICE,
        "late data",
    )
    assert [(entry.act, entry.actor, entry.reason) for entry in entries] == [("queued", ALICE, "late data")]


@pytest.mark.req("A4")
async def test_a_template_lock_key_is_filled_in_from_the_parameters(db: Db, registry: Registry) -> None:
    one = await enqueue.trigger(db, registry, "by-hand", TriggerRequest(params={"course_id": "AAA"}), ALICE)
    two = await enqueue.trigger(db, registry, "by-hand", TriggerRequest(params={"course_id": "BBB"}), ALICE)

    assert (one.lock_key, two.lock_key) == ("course:AAA", "course:BBB")


async def test_a_mistyped_job_is_refused_with_the_nearest_name(db: Db, registry: Registry) -> None:
    with pytest.raises(JobsdError) as refusal:
        await enqueue.trigger(db, registry, "nigthly", TriggerRequest(), ALICE)

    assert str(refusal.value) == 'error[E0501]: no job named "nigthly"\n  did you mean "nightly"?'


async def test_all_parameters_that_do_not_fit_are_told_at_once(db: Db, registry: Registry) -> None:
    request = TriggerRequest(params={"limit": "many", "coarse_id": 1})

    with pytest.raises(JobsdError) as refusal:
        await enqueue.trigger(db, registry, "by-hand", request, ALICE)

    assert [(one.code, one.message, one.hints) for one in refusal.value.problems] == [
        ("E0504", "coarse_id: there is no such parameter", ('did you mean "course_id"?',)),
        ("E0504", "course_id: field required", ()),
        (
            "E0504",
            "limit: expected a valid integer, unable to parse string as an integer, got 'many'",
            (),
        ),
    ]
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


async def test_a_lock_key_too_long_for_the_database_is_refused(db: Db, registry: Registry) -> None:
    request = TriggerRequest(params={"course_id": "x" * 3000})

    with pytest.raises(JobsdError, match="at most 500 are allowed"):
        await enqueue.trigger(db, registry, "by-hand", request, ALICE)


@pytest.mark.req("A8")
async def test_with_dry_run_set_for_the_node_every_run_is_recorded_as_dry(db: Db, registry: Registry) -> None:
    daemon = registry.settings.daemon.model_copy(update={"dry_run": True})
    dry = replace(registry, settings=registry.settings.model_copy(update={"daemon": daemon}))

    run = await enqueue.trigger(db, dry, "nightly", TriggerRequest(), ALICE)

    assert run.dry_run


@pytest.mark.req("P2")
async def test_the_same_key_and_request_make_one_run(db: Db, registry: Registry) -> None:
    request = TriggerRequest(params={"day": 1}, key="2026-11-22")

    first = await enqueue.trigger(db, registry, "nightly", request, ALICE)
    second = await enqueue.trigger(db, registry, "nightly", request.model_copy(update={"reason": "again"}), "unix:bob")

    assert (first.id, first.created) == (second.id, True)
    assert not second.created
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 1


@pytest.mark.parametrize(
    "other",
    [{"params": {"day": 2}}, {"params": {"day": 1}, "dry_run": True}, {"due_at": "2030-01-01T00:00:00Z"}],
)
async def test_the_same_key_for_another_request_is_refused(
    db: Db, registry: Registry, other: dict[str, object]
) -> None:
    first = await enqueue.trigger(db, registry, "nightly", TriggerRequest(params={"day": 1}, key="k"), ALICE)

    with pytest.raises(JobsdError, match=f'the idempotency key "k" belongs to run {first.id}'):
        await enqueue.trigger(db, registry, "nightly", TriggerRequest.model_validate({**other, "key": "k"}), ALICE)


async def test_a_key_is_one_jobs_own(db: Db, registry: Registry) -> None:
    one = await enqueue.trigger(db, registry, "nightly", TriggerRequest(key="k"), ALICE)
    two = await enqueue.trigger(db, registry, "ping", TriggerRequest(key="k"), ALICE)

    assert one.id != two.id
    assert two.created


async def test_a_run_may_be_asked_for_later(db: Db, registry: Registry) -> None:
    at = datetime(2030, 1, 1, 12, tzinfo=UTC)

    run = await enqueue.trigger(db, registry, "nightly", TriggerRequest(due_at=at), ALICE)

    assert run.due_at == at
