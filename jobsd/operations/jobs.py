"""What a person may ask of a job and do to it: list, show, next slots, ledger, switch it on and off."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from jobsd.domain.coming import coming
from jobsd.domain.describe import describe
from jobsd.domain.errors import Exit, did_you_mean, problem
from jobsd.domain.job import JobDefinition
from jobsd.domain.schedule import Schedule
from jobsd.operations.job_views import JobSummary, JobView, NextSlot, NextSlots, SlotView
from jobsd.operations.pages import Page, cursor_of, number_of, word_of
from jobsd.operations.run_views import RunSummary
from jobsd.registry.load import Registry
from jobsd.store import lists, standing, wake
from jobsd.store.db import Db, Row

LATEST_RUNS = 10
NEXT_SLOTS = 5
BY_FILE = "the registry"
LATEST = 2**33  # seconds since 1970, in the year 2242; slots are whole seconds


def definition_of(registry: Registry, name: str) -> JobDefinition:
    """The job of that name. Raises E0501 with the nearest name there is."""
    if (definition := registry.jobs.get(name)) is not None:
        return definition
    near = did_you_mean(name, registry.jobs)
    hint = f'did you mean "{near}"?' if near else "all of them: jobsd job list"
    raise problem("E0501", f'no job named "{name}"', hint, exit_code=Exit.NOT_FOUND)


async def page(db: Db, registry: Registry, limit: int, cursor: str | None = None) -> Page[JobSummary]:
    """Jobs in the order of their names."""
    after = word_of("jobs", cursor) if cursor else ""
    names = sorted(name for name in registry.jobs if name > after)
    chosen = names[:limit]
    switches = await _switches(db, chosen)
    latest = {row["job"]: row for row in await lists.latest_runs(db, chosen)}
    items = [_summary(registry, name, switches.get(name), latest.get(name)) for name in chosen]
    return Page(items=items, cursor=cursor_of("jobs", chosen[-1]) if len(names) > limit else None)


async def show(db: Db, registry: Registry, name: str) -> JobView:
    """One job with its definition, latest runs and next slots. Raises E0501."""
    job = definition_of(registry, name)
    switch = (await _switches(db, [name])).get(name)
    runs = await lists.latest_runs(db, [name], LATEST_RUNS)
    summary = _summary(registry, name, switch, runs[0] if runs else None)
    return JobView(
        **summary.model_dump(),
        runbook=job.runbook.model_dump(),
        next=next_after(registry.schedules[name], datetime.now(UTC), NEXT_SLOTS) if summary.enabled else [],
        runs=[RunSummary.model_validate(dict(row)) for row in runs],
        definition=readable(job),
    )


async def next_slots(db: Db, registry: Registry, name: str, count: int) -> NextSlots:
    """The slots to come, with a note where daylight saving or a blackout touches one. Raises E0501."""
    job = definition_of(registry, name)
    switch = (await _switches(db, [name])).get(name)
    schedule, now = registry.schedules[name], datetime.now(UTC)
    return NextSlots(
        job=name,
        schedule=describe(schedule),
        timezone=job.schedule.timezone if job.schedule else "UTC",
        enabled=disabled_by(job, switch) is None,
        items=[
            NextSlot(
                slot_at=slot.slot_at,
                local=f"{slot.local:%Y-%m-%d %H:%M:%S %Z}",
                in_s=(slot.slot_at - now).total_seconds(),
                note=slot.note,
            )
            for slot in coming(schedule, now, count)
        ],
    )


async def slots(db: Db, registry: Registry, name: str, limit: int, cursor: str | None = None) -> Page[SlotView]:
    """The ledger of a job's slots, the latest first. Raises E0501."""
    definition_of(registry, name)
    before = datetime.fromtimestamp(number_of("slots", cursor, LATEST), UTC) if cursor else None
    rows = await standing.slots(db, name, before, limit + 1)
    items = [SlotView.model_validate(dict(row)) for row in rows[:limit]]
    more = cursor_of("slots", int(items[-1].slot_at.timestamp())) if len(rows) > limit else None
    return Page(items=items, cursor=more)


async def switch(
    db: Db,
    registry: Registry,
    name: str,
    *,
    enabled: bool,
    actor: str,
    reason: str | None,
    lasts: timedelta | None = None,
) -> JobSummary:
    """Turn a job on, or off for as long as it `lasts` (None: until it is turned on).

    What runs goes on; its slots are decided all the same. Audited when it changes anything. Raises E0501 for a job that
    is not there, or that no daemon has registered yet.
    """
    definition_of(registry, name)
    moved = await standing.switch(db, name, enabled=enabled, actor=actor, reason=reason, lasts=lasts)
    if moved:
        await wake.notify(db, "job")
    if moved is None:
        raise problem("E0501", f'the job "{name}" is not registered yet', "try again", exit_code=Exit.NOT_FOUND)
    latest = await lists.latest_runs(db, [name])
    return _summary(registry, name, (await _switches(db, [name])).get(name), latest[0] if latest else None)


def next_after(schedule: Schedule, instant: datetime, count: int) -> list[datetime]:
    """At most `count` slots after `instant`."""
    found = list[datetime]()
    while len(found) < count and (at := schedule.next_after(found[-1] if found else instant)) is not None:
        found.append(at)
    return found


def readable(job: JobDefinition) -> Mapping[str, Any]:
    """What the registry declares of a job, as JSON; where a variable was filled in, the variable's name."""
    return {key: value for key, value in job.public().items() if key in job.model_fields_set}


def disabled_by(job: JobDefinition, switch: Row | None) -> str | None:
    """Who switched the job off; None when it is on."""
    if switch is not None and not switch["enabled"]:
        return str(switch["disabled_by"])
    return None if job.enabled else BY_FILE


async def _switches(db: Db, names: Sequence[str]) -> dict[str, Row]:
    return {row["name"]: row for row in await standing.switches(db, names)}


def _summary(registry: Registry, name: str, switch: Row | None, run: Row | None) -> JobSummary:
    job, schedule = registry.jobs[name], registry.schedules[name]
    off = disabled_by(job, switch)
    to_come = [] if off else next_after(schedule, datetime.now(UTC), 1)
    return JobSummary(
        name=job.name,
        description=job.description,
        kind=job.kind,
        schedule=describe(schedule),
        enabled=off is None,
        disabled_by=off,
        disabled_reason=switch["disabled_reason"] if switch else None,
        disabled_until=switch["disabled_until"] if switch else None,
        priority=job.priority,
        pool=job.pool,
        last_run=run["id"] if run else None,
        last_state=run["state"] if run else None,
        last_started_at=run["started_at"] if run else None,
        last_finished_at=run["finished_at"] if run else None,
        next_at=to_come[0] if to_come else None,
    )
