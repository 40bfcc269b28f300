"""The emergency stop: every running run, on whichever node, is failed by force, and jobs are switched off if asked.

Atomic runs that are not stale are left, as for one run alone; switched off, their jobs start nothing after them.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from jobsd.operations.moves import By, force, not_yet
from jobsd.operations.runs import Words
from jobsd.operations.told import NOBODY, Told
from jobsd.registry.load import Registry
from jobsd.store import jobs, moves, standing, wake
from jobsd.store.db import Db
from jobsd.store.moves import Standing

ROUNDS = 10  # of looking for what began while the round before was asked for


class EmergencyRequest(BaseModel):
    """Why, and whether jobs are to be switched off too."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: Words = Field(description="why, for the audit and for each run's error")
    disable_jobs: StrictBool = Field(False, description="switch every job off, so that nothing starts again")


class LeftRun(BaseModel):
    """A running run that was not ended."""

    id: int
    job: str
    detail: str = Field(description="why")


class Stopped(BaseModel):
    """What an emergency stop asked for; the nodes end the work at once, with each job's grace."""

    ending: list[int] = Field(description="the runs that are failed by force")
    left: list[LeftRun] = Field(description="atomic runs that are not stale: they go on")
    disabled: list[str] = Field(description="the jobs that this switched off")


async def emergency_stop(
    db: Db, registry: Registry, request: EmergencyRequest, actor: str, *, told: Told = NOBODY
) -> Stopped:
    """Switch jobs off first, if asked; then ask for the end of all that runs."""
    disabled = await _switch_off(db, request.reason, actor) if request.disable_jobs else []
    ending = set[int]()
    left: list[LeftRun] = []
    for _ in range(ROUNDS if request.disable_jobs else 1):
        running = await moves.running(db)
        spared = {each.id: why for each in running if (why := not_yet(registry, each)) is not None}
        asked = await force(db, [each for each in running if each.id not in spared], By(actor, request.reason, told))
        left = [_left(each, str(spared[each.id].problems[0].message)) for each in running if each.id in spared]
        if not asked - ending:
            break
        ending |= asked
    detail = {"ending": len(ending), "left": len(left), "disabled": len(disabled)}
    await jobs.audit(db, "emergency_stop", actor, reason=request.reason, detail=detail)
    return Stopped(ending=sorted(ending), left=left, disabled=disabled)


async def _switch_off(db: Db, reason: str, actor: str) -> list[str]:
    every: Sequence[str] = sorted(await jobs.registered(db))
    moved = await standing.switch_all(db, every, enabled=False, actor=actor, reason=f"emergency stop: {reason}")
    await wake.notify(db, "job")
    return moved


def _left(run: Standing, why: str) -> LeftRun:
    return LeftRun(id=run.id, job=run.job, detail=why)
