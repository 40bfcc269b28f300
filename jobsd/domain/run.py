"""A run: one durable request to execute a job. Its states, and the moves between them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

RunId = NewType("RunId", int)
NodeId = NewType("NodeId", int)
Fence = NewType("Fence", int)  # (database timeline << 40) + a sequence: it only rises, also across a failover

SEQUENCE_BITS = 40
CANARY = ".canary"  # stands where a job's name does, and is none: those begin with a letter


class RunState(StrEnum):
    QUEUED = "queued"  # waits for its `due_at`, the first time or again
    RUNNING = "running"  # claimed: one node holds its lock
    COMPLETED = "completed"  # it did what it was for
    FAILED = "failed"  # it did not; a person may retry it or let it be
    CANCELLED = "cancelled"  # nobody means to run it any more


MOVES: Mapping[RunState, frozenset[RunState]] = {  # sql/core/0001_core.sql holds the same; a test compares
    RunState.QUEUED: frozenset({RunState.RUNNING, RunState.CANCELLED}),
    RunState.RUNNING: frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED, RunState.QUEUED}),
    RunState.COMPLETED: frozenset(),
    RunState.FAILED: frozenset({RunState.QUEUED, RunState.CANCELLED}),
    RunState.CANCELLED: frozenset(),
}


class Act(StrEnum):
    CANCEL = "cancel"  # nobody means it to run (again)
    CHANGE = "change"  # another time, another priority
    DELETE = "delete"  # out of the lists; attempts and audit stay
    FORCE_FAIL = "force-fail"  # its work is ended, it has failed for the reason given
    RETRY = "retry"  # queued again: a new attempt


ALLOWED: Mapping[RunState, tuple[Act, ...]] = {  # what a person may do; there is no pausing and no resuming
    RunState.QUEUED: (Act.CANCEL, Act.CHANGE),
    RunState.RUNNING: (Act.FORCE_FAIL,),
    RunState.COMPLETED: (Act.DELETE,),
    RunState.FAILED: (Act.RETRY, Act.CANCEL, Act.DELETE),
    RunState.CANCELLED: (Act.DELETE,),
}


def where_allowed(act: Act) -> tuple[RunState, ...]:
    """The states in which `act` is allowed."""
    return tuple(state for state, acts in ALLOWED.items() if act in acts)


def allowed(state: RunState, *, permanent: bool) -> tuple[Act, ...]:
    """What may be done with a run in `state`; a permanent one is never deleted."""
    return tuple(act for act in ALLOWED[state] if not (permanent and act is Act.DELETE))


OVER = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED})


@dataclass(frozen=True, slots=True)
class ClaimedRun:
    """What the claim hands to a worker: a run that this node now runs, and must settle under `fence`."""

    id: RunId
    job: str
    fence: Fence
    attempt: int  # 1 for the first
    retries: int  # declared retries used so far
    version: int  # after the claim's own move
    params: Mapping[str, Any]
    dry_run: bool
    slot_at: datetime | None
    due_at: datetime
    started_at: datetime
    lock_key: int | None  # None: the run is its own key
    seat: int | None  # the lock id of its place in the job's concurrency
    idempotency_key: str | None = None
