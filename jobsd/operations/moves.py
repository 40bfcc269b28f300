"""What a person may do with a run: retry, cancel, change, delete, end by force; and what is said where it may not be.

The rules are those of `domain.run.ALLOWED`, held once more by the statements of `store.moves` and by the database. What
a running run does is never touched but by force, and nothing pauses or resumes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobsd.domain.duration import format_duration
from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.domain.job import Priority
from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import by_force
from jobsd.domain.run import Act, RunId, RunState, allowed, where_allowed
from jobsd.operations.run_views import RunView
from jobsd.operations.runs import Instant, Words, show
from jobsd.operations.told import NOBODY, Told
from jobsd.registry.load import Registry
from jobsd.store import forced, history, moves, wake
from jobsd.store.db import Db
from jobsd.store.history import Ended
from jobsd.store.moves import Standing, Who

DONE: Mapping[Act, str] = {
    Act.CANCEL: "cancelled",
    Act.CHANGE: "given another time or priority",
    Act.DELETE: "deleted",
    Act.FORCE_FAIL: "failed by force",
    Act.RETRY: "retried",
}


class ChangeRequest(BaseModel):
    """Another time or another priority for a queued run; what is left out stays."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    due_at: Instant | None = Field(None, description="not before")
    priority: Priority | None = Field(None, description="critical, high, medium, low, or 0 (first) to 9 (last)")
    reason: Words | None = Field(None, description="why, for the audit")


class Deleted(BaseModel):
    """A run that is gone."""

    id: int


async def retry(db: Db, run_id: RunId, who: Who) -> RunView:
    """Queue a failed run again, due at once: a new attempt, the old ones stay.

    Raises E0503, E0502, E0413, E0514 (its job has as many active runs as it may have).
    """
    done, crowded = await moves.retry(db, [run_id], who)
    if crowded:
        raise no_room(await _found(db, run_id))
    if not done:
        raise await refusal(db, Act.RETRY, run_id, who)
    return await show(db, run_id)


async def cancel(db: Db, run_id: RunId, who: Who) -> RunView:
    """Cancel a queued run, or a failed one that nobody means to retry. Raises E0503, E0502, E0413."""
    if not await moves.cancel(db, [run_id], who):
        raise await refusal(db, Act.CANCEL, run_id, who)
    view = await show(db, run_id)
    await wake.notify(db, f"ended:{view.job}")
    return view


async def change(db: Db, run_id: RunId, request: ChangeRequest, who: Who) -> RunView:
    """Reschedule or reprioritise a queued run. Raises E0503, E0502, E0413, E0507 (nothing to change)."""
    if request.due_at is None and request.priority is None:
        hint = "give due_at, priority or both"
        raise problem("E0507", "there is nothing to change", hint, exit_code=Exit.USAGE)
    wanted: dict[str, Any] = {"due_at": request.due_at, "priority": request.priority}
    if not await moves.change(db, run_id, who, **wanted):
        raise await refusal(db, Act.CHANGE, run_id, who)
    return await show(db, run_id)


async def delete(db: Db, run_id: RunId, who: Who) -> Deleted:
    """Delete a finished run; attempts and audit entries stay. Raises E0503, E0502, E0413, E0515 (kept for ever)."""
    if not await moves.delete(db, [run_id], who):
        raise await refusal(db, Act.DELETE, run_id, who)
    return Deleted(id=run_id)


@dataclass(frozen=True, slots=True)
class By:
    """Who ends runs by force, why, and who hears of those that end at once: another program does their work."""

    actor: str
    reason: str
    told: Told


async def force_fail(
    db: Db, registry: Registry, run_id: RunId, actor: str, reason: str, *, told: Told = NOBODY
) -> RunView:
    """End a running run as failed: its node ends the work and settles it, soon after this returns.

    A run whose work another program does is settled at once. Raises E0503, E0502, E0518 (atomic, and not stale).
    """
    found = await _found(db, run_id)
    if found.state != RunState.RUNNING:
        raise wrong_state(found, Act.FORCE_FAIL)
    if (why := not_yet(registry, found)) is not None:
        raise why
    if not await force(db, [found], By(actor, reason, told)):
        found = await _found(db, run_id)
        if found.state != RunState.RUNNING:
            raise wrong_state(found, Act.FORCE_FAIL)
    return await show(db, run_id)


async def force(db: Db, runs: Sequence[Standing], who: By) -> set[RunId]:
    """End running runs, whatever their jobs say; those that nobody had asked to end before."""
    outside = [_settled(each, who) for each in runs if each.external]
    done = await history.settle(db, outside, who.actor) if outside else set()
    who.told([each for each in outside if (each.run.id, each.run.fence) in done])
    asked = await forced.ask(db, [each.id for each in runs if not each.external], who.actor, who.reason)
    await wake.notify(db, "force")
    return {RunId(run) for run, _ in done} | asked


def _settled(each: Standing, who: By) -> Ended:
    if each.claimed is None or each.node is None:
        raise AssertionError(f"run {each.id} is not running")
    settlement = settle(each.claimed, SettlePolicy(), by_force(who.actor, who.reason), each.now)
    return Ended(each.claimed, each.node, settlement, each.now)


def not_yet(registry: Registry, found: Standing) -> JobsdError | None:
    """E0518 for a running run of an atomic job that is not stale yet; None when it may be failed by force."""
    job = registry.jobs.get(found.job)
    if job is None or not job.atomic or found.heard_at is None:
        return None
    silent = found.now - found.heard_at
    if silent >= job.stale_after:
        return None
    wait = format_duration(timedelta(seconds=max(1, round((job.stale_after - silent).total_seconds()))))
    return problem(
        "E0518",
        f"run {found.id} is of the atomic job {found.job} and was heard of {_span(silent)} ago; "
        f"it can be failed by force once it was not heard of for {format_duration(job.stale_after)}",
        f"in {wait}, if it stays silent: jobsd run fail {found.id} --reason …",
        exit_code=Exit.CONFLICT,
    )


async def refusal(db: Db, act: Act, run_id: RunId, who: Who) -> JobsdError:
    """Why `act` was not done: no such run, another state or version than it needs, or it is kept for ever."""
    found = await _found(db, run_id)
    if RunState(found.state) not in where_allowed(act):
        return wrong_state(found, act)
    if who.version not in (None, found.version):
        return moved_on(found, who)
    return kept_for_ever(found) if act is Act.DELETE else wrong_state(found, act)


def moved_on(found: Standing, who: Who) -> JobsdError:
    """E0413."""
    text = f"run {found.id} has changed since: version {who.version} was expected, it has {found.version}"
    return problem("E0413", text, "read it again", exit_code=Exit.CONFLICT)


def wrong_state(found: Standing, act: Act) -> JobsdError:
    """E0502 with the state and what it allows, also for programs."""
    state = RunState(found.state)
    *others, last = where_allowed(act)
    where = f"{', '.join(others)} and {last}" if others else last
    may = [str(one) for one in allowed(state, permanent=found.permanent)]
    refused = problem(
        "E0502",
        f"run {found.id} is {state}; only {where} runs can be {DONE[act]}",
        f"allowed now: {', '.join(may) or 'nothing'}",
        exit_code=Exit.CONFLICT,
    )
    return replace(refused, detail={"run": found.id, "state": state, "allowed": may})


def kept_for_ever(found: Standing) -> JobsdError:
    """E0515."""
    text = f"run {found.id} of {found.job} is kept for ever: its job is atomic, or declares that"
    return problem("E0515", text, "its state and its history stay as they are", exit_code=Exit.CONFLICT)


def no_room(found: Standing) -> JobsdError:
    """E0514."""
    text = f"run {found.id} cannot be queued again: {found.job} has as many active runs as it may have (max_active)"
    return problem("E0514", text, "wait until one of them is over, or cancel one", exit_code=Exit.CONFLICT)


async def _found(db: Db, run_id: RunId) -> Standing:
    for found in await moves.standing(db, [run_id]):
        return found
    raise problem("E0503", f"there is no run {run_id}", "the latest ones: jobsd run list", exit_code=Exit.NOT_FOUND)


def _span(span: timedelta) -> str:
    return format_duration(timedelta(seconds=round(span.total_seconds())))
