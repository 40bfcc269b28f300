"""Why a job is not running now: every reason there is, in words, the strongest first."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from jobsd.domain.duration import format_duration
from jobsd.domain.job import JobDefinition
from jobsd.domain.lock_key import lock_key_of
from jobsd.domain.slot import MAKES_A_RUN
from jobsd.operations.job_views import Reason, Why
from jobsd.operations.jobs import BY_FILE, definition_of, disabled_by, next_after
from jobsd.registry.load import Registry
from jobsd.store import queue, standing, tickets
from jobsd.store.db import Db, Row


async def why(db: Db, registry: Registry, name: str) -> Why:
    """Gather the reasons. Raises E0501."""
    job = definition_of(registry, name)
    now = datetime.now(UTC)
    switches = await standing.switches(db, [name])
    switch = switches[0] if switches else None
    running, waiting = await standing.running(db, name), await standing.waiting_runs(db, name)
    to_come = next_after(registry.schedules[name], now, 1)
    reasons = [
        *_switched_off(job, switch, registry),
        *_nobody_to_take_it(job, await standing.live_nodes(db)),
        *_held_back(job, running, waiting, now),
        *await _at_its_limits(db, job, now),
        *([] if waiting else await _own_key(db, job, running, now)),
        *(_waits_for_needs(job, slot) for slot in await standing.waiting_slots(db, name)),
        *_passed_over(await standing.slots(db, name, None, 1)),
        *_next(job, to_come, now),
    ]
    off = disabled_by(job, switch) is not None
    return Why(
        job=name,
        running=[row["id"] for row in running],
        reasons=reasons,
        next_at=to_come[0] if to_come and not off else None,
    )


def _switched_off(job: JobDefinition, switch: Row | None, registry: Registry) -> Iterator[Reason]:
    by = disabled_by(job, switch)
    if by == BY_FILE:
        yield Reason(code="disabled_in_file", text="disabled in the registry: enabled = false")
    elif switch is not None and by is not None:
        why_ = f': "{switch["disabled_reason"]}"' if switch["disabled_reason"] else ", no reason given"
        until = f" until {_instant(switch['disabled_until'])}" if switch["disabled_until"] else ""
        yield Reason(code="disabled", text=f"disabled by {by}{until}{why_}")
    if not registry.settings.daemon.enabled:
        yield Reason(code="node_disabled", text="this node is switched off (JOBSD_ENABLED=false): it starts nothing")


def _nobody_to_take_it(job: JobDefinition, nodes: Sequence[Row]) -> Iterator[Reason]:
    if job.external or any(job.pool in node["pools"] for node in nodes):
        return
    served = sorted({pool for node in nodes for pool in node["pools"]})
    there = f"the live nodes serve {', '.join(served)}" if nodes else "no node is live"
    yield Reason(code="no_node", text=f'no node serves its pool "{job.pool}": {there}')


def _held_back(job: JobDefinition, running: Sequence[Row], waiting: Sequence[Row], now: datetime) -> Iterator[Reason]:
    """Why its queued runs are not taken: their time, the limit on the job, the key that another run holds."""
    for row in running:
        where = "in another program" if job.external else f"on {row['node']}"
        text = f"run {row['id']} is running {where}, for {_span(now - row['started_at'])}"
        yield Reason(code="running", text=text)
    if job.concurrency is not None and len(running) >= job.concurrency:
        yield Reason(code="no_place", text=f"all {job.concurrency} places of its concurrency are taken")
    for row in waiting:
        if row["holder"] is not None:
            yield Reason(code="key_held", text=f"run {row['id']} waits: {_holder(row, now)}")
        elif row["later"]:
            text = f"run {row['id']} is due at {_instant(row['due_at'])}, in {_span(row['due_at'] - now)}"
            yield Reason(code="due_later", text=text)
        elif job.external:
            text = f"run {row['id']} waits for a program to start it: POST /api/v1/runs/{row['id']}/start"
            yield Reason(code="waits_for_program", text=text)


async def _at_its_limits(db: Db, job: JobDefinition, now: datetime) -> list[Reason]:
    """Its rate, and how many runs of it may be active."""
    found = []
    if job.rate is not None and (free_at := await tickets.next_free(db, [(job.name, job.rate.per)])) is not None:
        text = (
            f"it has started as often as its rate of {job.rate} allows; the next start is free at {_instant(free_at)}"
        )
        found.append(Reason(code="rate", text=f"{text}, in {_span(free_at - now)}"))
    if job.max_active is not None and await queue.active(db, job.name, job.max_active) >= job.max_active:
        found.append(Reason(code="max_active", text=f"all {job.max_active} active runs that it may have are there"))
    return found


def _holder(row: Row, now: datetime) -> str:
    by = f"run {row['holder']} of {row['holder_job']} on {row['holder_node']}"
    return f'the lock key "{row["lock_key"]}" is held by {by}, for {_span(now - row["held_since"])}'


async def _own_key(db: Db, job: JobDefinition, running: Sequence[Row], now: datetime) -> list[Reason]:
    """With nothing queued: whether another job's run holds the key that its next run will need."""
    try:
        key = lock_key_of(job.key_template, job.params)
    except ValueError:  # a template whose parameters come with each run
        return []
    held = await standing.holder(db, key) if key else None
    if held is None or held["id"] in {row["id"] for row in running}:
        return []
    since = _span(now - held["started_at"])
    text = f'its lock key "{key}" is held by run {held["id"]} of {held["job"]} on {held["node"]}, for {since}'
    return [Reason(code="key_held", text=text)]


def _waits_for_needs(job: JobDefinition, slot: Row) -> Reason:
    waits_for = slot["reason"] or f"waits for {', '.join(job.needs)}"
    text = f"slot {_instant(slot['slot_at'])} {waits_for}, until {_instant(slot['wait_until'])} at the latest"
    return Reason(code="waits_for_needs", text=text)


def _passed_over(latest: Sequence[Row]) -> Iterator[Reason]:
    """The last decision, when it made no run: "overlap", "blackout" and the like explain a quiet job best."""
    for slot in latest:
        if slot["decision"] not in {*MAKES_A_RUN, "waiting"}:
            reason = f": {slot['reason']}" if slot["reason"] else ""
            decided = f"{slot['decision'].replace('_', ' ')}{reason}"
            yield Reason(code="last_decision", text=f"its last slot, {_instant(slot['to_at'])}, did not run: {decided}")


def _next(job: JobDefinition, to_come: Sequence[datetime], now: datetime) -> Iterator[Reason]:
    if job.schedule is None:
        yield Reason(code="manual", text=f"it has no schedule: jobsd trigger {job.name}")
    elif job.schedule.after:
        yield Reason(
            code="after", text=f"it starts when {', '.join(job.schedule.after)} completed for their latest slot"
        )
    elif to_come:
        text = f"its next slot is {_instant(to_come[0], job.schedule.timezone)}, in {_span(to_come[0] - now)}"
        yield Reason(code="next_slot", text=text)
    else:
        yield Reason(code="no_next_slot", text="its schedule has no further slot")


def _instant(at: datetime, zone: str = "UTC") -> str:
    return f"{at.astimezone(ZoneInfo(zone)):%Y-%m-%d %H:%M:%S} {zone}"


def _span(span: timedelta) -> str:
    return format_duration(timedelta(seconds=max(0, round(span.total_seconds()))))
