"""Retry, cancel and delete many runs at once, by a filter: counted first, done in batches, an audit entry for each run.

A batch is one statement, so what was done stays done when a later one cannot be; to ask again is safe.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from pydantic import BaseModel, Field

from jobsd.domain.errors import JobsdError
from jobsd.domain.run import Act, RunId, RunState, where_allowed
from jobsd.operations.moves import kept_for_ever, no_room, wrong_state
from jobsd.store import lists, moves
from jobsd.store.db import Db
from jobsd.store.lists import RunFilter
from jobsd.store.moves import Standing, Who

MOST = 20_000  # runs of one request
BATCH = 500
TOLD = 100  # refusals that are told one by one


class RefusedRun(BaseModel):
    """A run that matched and was left as it is."""

    id: int
    job: str
    state: RunState
    code: str
    detail: str = Field(description="why, as an act on it alone would say")


class Bulk(BaseModel):
    """What became of the runs that a filter matches."""

    matched: int = Field(description=f"at most {MOST}, see before")
    done: int
    refused: list[RefusedRun] = Field(description=f"the first {TOLD} of those that were left as they are")
    refused_count: int
    before: int | None = Field(
        None, description="null when this was all; else there are more: ask again with this in the filter"
    )


@dataclass(frozen=True, slots=True)
class Order:
    """Do `act`, one of retry, cancel, delete, with all runs that are `wanted`; with `dry_run` only count them.

    Without states in the filter those are meant in which `act` is allowed.
    """

    act: Act
    wanted: RunFilter
    who: Who
    dry_run: bool = False


async def bulk(db: Db, order: Order) -> Bulk:
    """Do it with the runs that match now, the oldest first; those that come to match meanwhile are left."""
    states = order.wanted.states or where_allowed(order.act)
    found = await lists.ids(db, replace(order.wanted, states=states), MOST + 1)
    ids, before = found[:MOST], found[MOST - 1] if len(found) > MOST else None
    answer = Bulk(matched=len(ids), done=0, refused=[], refused_count=0, before=before)
    if not order.dry_run:
        oldest_first = ids[::-1]
        for start in range(0, len(ids), BATCH):
            await _do(db, order, oldest_first[start : start + BATCH], answer)
    return answer


async def _do(db: Db, order: Order, batch: Sequence[RunId], answer: Bulk) -> None:
    """One batch; what came of it is added to `answer`."""
    done, crowded = await _moved(db, order, batch)
    answer.done += len(done)
    if len(done) == len(batch):
        return
    left = await moves.standing(db, [run for run in batch if run not in done])  # what is gone meanwhile is missing
    answer.refused_count += len(left)
    told = left[: TOLD - len(answer.refused)]
    answer.refused.extend(_refused(each, _why(order.act, each, crowded)) for each in told)


async def _moved(db: Db, order: Order, batch: Sequence[RunId]) -> tuple[set[RunId], set[RunId]]:
    """Those that were moved, and those for which their job's max_active has no room."""
    if order.act is Act.RETRY:
        return await moves.retry(db, batch, order.who)
    move = moves.cancel if order.act is Act.CANCEL else moves.delete
    return await move(db, batch, order.who), set()


def _why(act: Act, found: Standing, crowded: set[RunId]) -> JobsdError:
    if found.id in crowded:
        return no_room(found)
    if act is Act.DELETE and RunState(found.state) in where_allowed(act):
        return kept_for_ever(found)
    return wrong_state(found, act)


def _refused(found: Standing, why: JobsdError) -> RefusedRun:
    first = why.problems[0]
    return RefusedRun(id=found.id, job=found.job, state=RunState(found.state), code=first.code, detail=first.message)
