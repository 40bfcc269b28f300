"""Asking for a run: what is checked, what is stored, and what a key is good for."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

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


async def age(db: Db, run: int) -> None:
    """As if it had been made a day and a minute ago."""
    await db.execute("ALTER TABLE jobsd.run DISABLE TRIGGER USER")
    await db.execute("UPDATE jobsd.run SET created_at = created_at - interval '24 hours 1 minute' WHERE id = $1", run)
    await db.execute("ALTER TABLE jobsd.run ENABLE TRIGGER USER")


async def cancel(db: Db) -> None:
    over = "UPDATE jobsd.run SET state = 'cancelled', ready = NULL, capped = NULL, finished_at = now()"
    await db.execute(f"{over} WHERE state = 'queued'")


@pytest.mark.req("P2")
async def test_a_key_is_free_again_a_day_after_its_use_once_its_run_is_over(db: Db, registry: Registry) -> None:
    request = TriggerRequest(key="k")
    first = await enqueue.trigger(db, registry, "nightly", request, ALICE)
    await age(db, first.id)

    still_queued = await enqueue.trigger(db, registry, "nightly", request, ALICE)
    await cancel(db)
    over = await enqueue.trigger(db, registry, "nightly", request, ALICE)
    await cancel(db)
    over_but_young = await enqueue.trigger(db, registry, "nightly", request, ALICE)

    audit = await db.fetchval("SELECT detail ->> 'key' FROM jobsd.audit WHERE run = $1 AND sequence = 1", first.id)
    assert still_queued.id == first.id
    assert over.id != first.id
    assert over_but_young.id == over.id
    assert audit == "k"


@pytest.mark.req("P2")
async def test_a_key_used_in_sql_stands_for_the_same_request_over_http(db: Db, registry: Registry) -> None:
    at = datetime(2030, 1, 1, 12, 30, 1, 250, tzinfo=UTC)
    call = """
        SELECT jobsd.enqueue('nightly', '{"day": 1, "late": [1.5, null]}', priority => 3, due_at => $1,
                             idempotency_key => 'k', tags => '{"a": "b"}', dry_run => true)
    """
    run = await db.fetchval(call, at)
    asked = {"params": {"late": [1.5, None], "day": 1}, "priority": "high", "due_at": at, "tags": {"a": "b"}}

    same = await enqueue.trigger(
        db, registry, "nightly", TriggerRequest.model_validate({**asked, "key": "k", "dry_run": True}), ALICE
    )
    with pytest.raises(JobsdError, match="which was asked for differently"):
        await enqueue.trigger(db, registry, "nightly", TriggerRequest.model_validate({**asked, "key": "k"}), ALICE)

    assert (same.id, same.created) == (run, False)


@pytest.mark.req("F1", "B7")
async def test_priority_and_tags_are_the_requests_own(db: Db, registry: Registry) -> None:
    tags = {"language": "fr", "board": "b", "class": "7"}

    run = await enqueue.trigger(db, registry, "ping", TriggerRequest(priority=1, tags=tags), ALICE)
    usual = await enqueue.trigger(db, registry, "ping", TriggerRequest(), ALICE)

    assert (run.priority, run.tags) == (1, tags)
    assert (usual.priority, usual.tags) == (5, {})


@pytest.mark.parametrize(
    "tags",
    [{"Language": "fr"}, {"9a": "x"}, {"a b": "x"}, {"a": 1}, {"a": "x" * 201}, {f"t{n}": "x" for n in range(21)}],
)
def test_tags_that_cannot_be_are_refused(tags: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TriggerRequest.model_validate({"tags": tags})


def test_beside_many_runs_nothing_is_said_of_one() -> None:
    with pytest.raises(ValidationError, match="params: belongs into each of the runs"):
        TriggerRequest.model_validate({"runs": [{}], "params": {"day": 1}})


def numbered(count: int) -> list[RunRequest]:
    return [RunRequest(params={"course_id": f"c{n}"}, key=f"k{n}") for n in range(count)]


@pytest.mark.req("F1", "B9")
async def test_ten_thousand_runs_are_stored_by_one_call_and_the_same_call_again_makes_none(
    db: Db, registry: Registry
) -> None:
    many = numbered(10_000)

    first = await enqueue.trigger_many(db, registry, "by-hand", many, actor=ALICE, reason="new term")
    again = await enqueue.trigger_many(db, registry, "by-hand", many, actor=ALICE, reason="new term")

    rows = await db.fetch("SELECT id, lock_key FROM jobsd.runs ORDER BY id")
    told = await db.fetchval("SELECT count(*) FROM jobsd.audit WHERE act = 'queued' AND reason = 'new term'")
    assert (first.created, first.existing, again.created, again.existing) == (10_000, 0, 0, 10_000)
    assert first.ids == again.ids == [row["id"] for row in rows]
    assert [row["lock_key"] for row in rows] == [f"course:c{n}" for n in range(10_000)]
    assert told == 10_000


async def test_one_run_that_does_not_fit_refuses_them_all_and_says_where_it_stands(db: Db, registry: Registry) -> None:
    many = [*numbered(2), RunRequest(params={"limit": "many"}), *numbered(200)]

    with pytest.raises(JobsdError) as refusal:
        await enqueue.trigger_many(db, registry, "by-hand", many, actor=ALICE, reason=None)

    places = [(one.place.file, one.message[:7]) for one in refusal.value.problems if one.place]
    assert places == [("#/runs/2/params/course_id", "runs.2:"), ("#/runs/2/params/limit", "runs.2:")]
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


async def test_one_key_that_stands_for_another_request_refuses_them_all(db: Db, registry: Registry) -> None:
    await enqueue.trigger_many(db, registry, "by-hand", numbered(1), actor=ALICE, reason=None)
    other = RunRequest(params={"course_id": "other"}, key="k0")

    with pytest.raises(JobsdError, match='the idempotency key "k0" belongs to run'):
        await enqueue.trigger_many(db, registry, "by-hand", [*numbered(3)[1:], other], actor=ALICE, reason=None)

    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 1


def capped(registry: Registry, most: int) -> Registry:
    job = registry.jobs["ping"].model_copy(update={"max_active": most})
    return replace(registry, jobs={**registry.jobs, "ping": job})


@pytest.mark.req("D3")
async def test_max_active_holds_exactly_when_forty_ask_at_once(db: Db, registry: Registry) -> None:
    few = capped(registry, 7)
    async with Db.open(db.url, size=16) as wide:
        calls = (enqueue.trigger(wide, few, "ping", TriggerRequest(), ALICE) for _ in range(40))
        answers = await asyncio.gather(*calls, return_exceptions=True)

    refusals = [str(each) for each in answers if isinstance(each, BaseException)]
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 7
    assert len(refusals) == 33
    assert all("E0514" in text and "ping may have 7 active runs" in text for text in refusals)


async def test_a_key_that_has_its_run_is_answered_also_when_there_is_no_room(db: Db, registry: Registry) -> None:
    few = capped(registry, 1)
    first = await enqueue.trigger(db, few, "ping", TriggerRequest(key="k"), ALICE)

    again = await enqueue.trigger(db, few, "ping", TriggerRequest(key="k"), ALICE)
    with pytest.raises(JobsdError, match="room for 0 more, 2 were asked for"):
        await enqueue.trigger_many(db, few, "ping", [RunRequest()] * 2, actor=ALICE, reason=None)

    assert (again.id, again.created) == (first.id, False)


async def test_a_run_may_be_asked_for_later(db: Db, registry: Registry) -> None:
    at = datetime(2030, 1, 1, 12, tzinfo=UTC)

    run = await enqueue.trigger(db, registry, "nightly", TriggerRequest(due_at=at), ALICE)

    assert run.due_at == at
