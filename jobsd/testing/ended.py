"""What a test sees of an attempt that is over."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jobsd.domain.outcome import Settlement
from jobsd.domain.run import OVER, ClaimedRun, RunState


@dataclass(frozen=True, slots=True)
class Message:
    level: str  # info, warning or error
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """What an attempt said."""

    messages: Sequence[Message]
    progress: Sequence[tuple[float, str]]
    heartbeats: int


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt at a run, and what became of the run by it."""

    run_id: int
    attempt: int  # 1 for the first
    state: str  # of the run now: completed, failed, cancelled; queued when it is to be run again
    outcome: str  # of the attempt: completed, failed, cancelled, deferred, timed_out
    result: Any
    error_kind: str | None  # the exception's class, "timeout", …
    error: str | None  # word for word, with its traceback
    retries: int  # declared ones, used so far
    due_at: datetime | None  # when it is to be run again
    alert: str | None  # the type of the alert that people would be told: JOB_FAILED, …
    messages: Sequence[Message]  # those of this attempt
    progress: Sequence[tuple[float, str]]  # share done and note, each time the job told
    heartbeats: int

    @property
    def over(self) -> bool:
        """Whether the run ends with this."""
        return RunState(self.state) in OVER


def ended_of(run: ClaimedRun, settlement: Settlement, words: Words) -> Ended:
    return Ended(
        run_id=run.id,
        attempt=run.attempt,
        state=settlement.state.value,
        outcome=settlement.outcome,
        result=settlement.result,
        error_kind=settlement.error_kind,
        error=settlement.error,
        retries=run.retries + settlement.retry,
        due_at=settlement.due_at if settlement.state is RunState.QUEUED else None,
        alert=settlement.alert.type if settlement.alert else None,
        messages=words.messages,
        progress=words.progress,
        heartbeats=words.heartbeats,
    )
