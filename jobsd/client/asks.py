"""Every request of the HTTP clients as data: what goes where. How it is sent, `http` and `aio` know."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import quote

Json = dict[str, Any]
Fields = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Run:
    """One run that is asked for. What is left out is the job's own; `due_at` has a time zone.

    `key` is an idempotency key: for a day, and until that run is over, the same one makes no second run of the job.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    priority: int | None = None  # 0 (first) to 9 (last)
    due_at: datetime | None = None
    key: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    dry_run: bool = False

    def said(self) -> Json:
        """As the API and `jobsd.enqueue_many` read it. Raises `ValueError` for a time without its zone."""
        if self.due_at is not None and self.due_at.tzinfo is None:
            raise ValueError("due_at: expected a time with its time zone")
        return given(
            params=self.params or None,
            priority=self.priority,
            due_at=self.due_at.isoformat() if self.due_at else None,
            key=self.key,
            tags=self.tags or None,
            dry_run=self.dry_run or None,
        )


class Ask(NamedTuple):
    method: str
    path: str  # below /api/v1
    body: Json | None = None
    key: str | None = None  # the header Idempotency-Key


def given(**fields: object) -> Json:
    """Those that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def enqueue(job: str, run: Run, reason: str | None, *, start: bool = False) -> Ask:
    return Ask("POST", _runs(job), {**run.said(), **given(reason=reason, start=start or None)})


def enqueue_many(job: str, runs: Iterable[Run], key: str | None, reason: str | None) -> Ask:
    return Ask("POST", _runs(job), {"runs": [each.said() for each in runs], **given(reason=reason)}, key)


def show(run: int) -> Ask:
    return Ask("GET", f"/runs/{run}")


def act(run: int, what: str, **fields: object) -> Ask:
    """retry, cancel, start, heartbeat, progress, messages, complete, fail."""
    return Ask("POST", f"/runs/{run}/{what}", given(**fields))


def _runs(job: str) -> str:
    return f"/jobs/{quote(job, safe='')}/runs"
