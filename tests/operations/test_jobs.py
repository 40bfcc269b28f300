"""Jobs as people see them, and the operator's switch."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.operations import jobs
from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.support.engine import enqueued, node, registered
from tests.support.web import registry_of

AUDIT = "SELECT act, actor, job, reason FROM jobsd.audit WHERE run IS NULL ORDER BY sequence"


@pytest.mark.req("E11")
async def test_a_list_tells_schedule_last_run_and_next_slot(db: Db, registry: Registry) -> None:
    await enqueued(db, "ping", 2)
    (latest,) = await enqueued(db, "ping")

    found = {job.name: job for job in (await jobs.page(db, registry, 50)).items}

    assert list(found) == ["by-hand", "nightly", "ping"]
    assert [job.schedule for job in found.values()] == ["by hand", "at 02:30 every day, Europe/Berlin", "every 10 s"]
    assert (found["ping"].last_run, found["ping"].last_state) == (latest, "queued")
    next_at = found["ping"].next_at
    assert next_at is not None
    assert next_at.second % 10 == 0
    assert found["by-hand"].next_at is None


async def test_pages_together_are_the_whole_list(db: Db, registry: Registry) -> None:
    first = await jobs.page(db, registry, 2)
    second = await jobs.page(db, registry, 2, first.cursor)

    assert [job.name for job in (*first.items, *second.items)] == ["by-hand", "nightly", "ping"]
    assert second.cursor is None


@pytest.mark.req("C1")
async def test_a_job_is_shown_as_declared_with_variables_and_not_their_values(db: Db, tmp_path: Path) -> None:
    text = '[jobs.call]\nhttp = { url = "https://x.test", headers = { Authorization = "Bearer ${TOKEN}" } }\n'
    registry = registry_of(tmp_path, text, TOKEN="hush-hush-hush")
    await registered(db, *registry.jobs.values())

    shown = await jobs.show(db, registry, "call")

    assert shown.definition["http"]["headers"] == {"Authorization": "Bearer ${TOKEN}"}
    assert "hush" not in shown.model_dump_json()


@pytest.mark.req("E11")
async def test_a_disabled_job_says_by_whom_and_why_and_has_no_next_slot(db: Db, registry: Registry) -> None:
    await jobs.switch(db, registry, "ping", enabled=False, actor="unix:alice", reason="database moves")

    shown = await jobs.show(db, registry, "ping")

    assert (shown.enabled, shown.disabled_by, shown.disabled_reason) == (False, "unix:alice", "database moves")
    assert (shown.next_at, shown.next) == (None, [])


@pytest.mark.req("A7", "B9")
async def test_switching_is_audited_once_for_each_change(db: Db, registry: Registry) -> None:
    for enabled in (False, False, True, True):
        await jobs.switch(db, registry, "ping", enabled=enabled, actor="unix:alice", reason=f"to {enabled}")

    assert [tuple(row) for row in await db.fetch(AUDIT)] == [
        ("disabled", "unix:alice", "ping", "to False"),
        ("enabled", "unix:alice", "ping", "to True"),
    ]


async def test_a_job_that_no_daemon_has_registered_cannot_be_switched(db: Db, tmp_path: Path) -> None:
    registry = registry_of(tmp_path)

    with pytest.raises(JobsdError, match="is not registered yet"):
        await jobs.switch(db, registry, "ping", enabled=False, actor="unix:alice", reason=None)


async def test_next_slots_carry_a_note_where_the_clock_changes(db: Db, registry: Registry) -> None:
    found = await jobs.next_slots(db, registry, "nightly", 200)

    notes = [slot.note for slot in found.items if slot.note]
    offsets = {slot.local[-4:] for slot in found.items}
    assert len(found.items) == 200
    assert notes, "200 nights cross at least one change of the clock"
    assert offsets == {" CET", "CEST"}


async def test_the_ledger_comes_page_by_page_the_latest_slot_first(db: Db, registry: Registry) -> None:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    slots = [start + timedelta(seconds=10 * n) for n in range(5)]
    async with node(db, "n") as here:
        for at in slots:
            await db.execute(LEDGER, at, here.keeper.node)

    first = await jobs.slots(db, registry, "ping", 3)
    second = await jobs.slots(db, registry, "ping", 3, first.cursor)

    assert [slot.slot_at for slot in (*first.items, *second.items)] == slots[::-1]
    assert second.cursor is None
    assert {(slot.decision, slot.node) for slot in first.items} == {("overlap", "n")}


LEDGER = """
    INSERT INTO jobsd.slot (job, slot_at, to_at, decision, reason, node)
    VALUES ('ping', $1, $1, 'overlap', 'run 1 is not over', $2)
"""
