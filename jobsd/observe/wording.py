"""Every event as one line of the log: its stable name, its level, its facts."""

from typing import Any, assert_never

import structlog

from jobsd.domain.events import (
    AlertTold,
    DatabaseTrouble,
    Event,
    LockSession,
    LoopBlocked,
    Noted,
    RegistryReloaded,
    RunEnded,
    RunIgnoresCancellation,
    RunRefused,
    RunsLost,
    RunStarted,
    SlotDecided,
)
from jobsd.domain.run import ClaimedRun, RunState
from jobsd.domain.slot import Decision

Line = tuple[str, str, dict[str, Any]]  # level, event, fields

_OURS = {"at", "level", "event", "exc_info"}  # of every line
_WARN_OF_SLOT = {Decision.MISSED, Decision.TOO_OLD, Decision.NO_NODE, Decision.NEEDS}
_LOCK_SESSION = {"up": "info", "adopted": "warning", "lost": "error", "fenced": "error"}


class LogObserver:
    """Writes each event it is called with. Safe in any thread. Make it after `logs.setup`."""

    def __init__(self) -> None:
        self._log = structlog.get_logger().bind()

    def __call__(self, event: Event) -> None:
        level, name, fields = line_of(event)
        getattr(self._log, level)(name, **fields)


def line_of(event: Event) -> Line:  # noqa: PLR0911 - one return for each event is what reads best
    """Put an event into words."""
    match event:
        case RunStarted() | RunEnded() | RunRefused() | RunIgnoresCancellation():
            return _of_run(event)
        case SlotDecided():
            return _slot(event)
        case LoopBlocked(for_s, task, stack, over):
            level, name = ("warning", "loop_resumed") if over else ("error", "loop_blocked")
            return level, name, {"for_s": round(for_s, 3), "task": task, "stack": None if over else stack}
        case LockSession(state, reason, runs):
            level = _LOCK_SESSION.get(state, "warning")
            return level, f"lock_session_{state}", {"reason": reason or None, "runs": runs}
        case RunsLost(node, runs, reason):
            return "warning", "runs_lost", {"node": node, "runs": runs, "reason": reason}
        case RegistryReloaded():
            return _registry(event)
        case AlertTold(kind, channel, ok, error, summary, count):
            told = {"alert": kind, "channel": channel, "summary": summary, "count": count}
            return ("debug", "alert_told", told) if ok else ("warning", "alert_not_told", {**told, "error": error})
        case DatabaseTrouble(loop, error):
            return "warning", "database_trouble", {"loop": loop, "error": error}
        case Noted(name, level, fields):
            return level, name, {f"{key}_" if key in _OURS else str(key): value for key, value in fields.items()}
        case _:
            assert_never(event)


def _of_run(event: RunStarted | RunEnded | RunRefused | RunIgnoresCancellation) -> Line:
    match event:
        case RunStarted(run, pickup_s):
            slot_at = run.slot_at.isoformat() if run.slot_at else None
            more = {"slot_at": slot_at, "dry_run": run.dry_run, "pickup_s": round(pickup_s, 3)}
            return "info", "run_started", {**_which(run), **more}
        case RunEnded():
            return _ended(event)
        case RunRefused(run, settlement):
            return "warning", "run_refused", {**_which(run), "outcome": settlement.outcome, "error": settlement.error}
        case RunIgnoresCancellation(run, for_s, ended):
            level, name = ("warning", "run_ended_at_last") if ended else ("error", "run_ignores_cancellation")
            return level, name, {**_which(run), "for_s": round(for_s, 3)}
        case _:
            assert_never(event)


def _ended(event: RunEnded) -> Line:
    settlement = event.settlement
    fields = {**_which(event.run), "outcome": settlement.outcome, "duration_s": round(event.duration_s, 3)}
    if settlement.error is not None:
        fields |= {"kind": settlement.error_kind, "error": settlement.error}
    match settlement.state:
        case RunState.COMPLETED:
            return "info", "run_completed", fields
        case RunState.QUEUED:
            fields["due_at"] = settlement.due_at.isoformat() if settlement.due_at else None
            if settlement.outcome == "deferred":
                return "info", "run_deferred", fields
            return "warning", "run_retry" if settlement.retry else "run_requeued", fields
        case RunState.CANCELLED:
            return "info", "run_cancelled", fields
        case RunState.FAILED | RunState.RUNNING:
            return "error", "run_failed", fields
        case _:
            assert_never(settlement.state)


def _slot(event: SlotDecided) -> Line:
    level = "debug" if event.decision == Decision.RAN else "warning" if event.decision in _WARN_OF_SLOT else "info"
    fields = {
        "job": event.job,
        "decision": str(event.decision),
        "slot_at": event.slot_at.isoformat(),
        "count": event.count,
        "lag_s": round(event.lag_s, 3),
        "reason": event.reason or None,
        "run": event.run,
    }
    return level, "slot_decided", fields


def _registry(event: RegistryReloaded) -> Line:
    if not event.ok:
        return "error", "registry_rejected", {"error": event.error}
    diff = {"added": list(event.added), "changed": list(event.changed), "removed": list(event.removed)}
    return "info", "registry_reloaded", diff


def _which(run: ClaimedRun) -> dict[str, Any]:
    return {"job": run.job, "run": run.id, "attempt": run.attempt, "fence": run.fence}
