"""All that is to be seen after a campaign, as plain values: what the checks judge."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

OVER = ("completed", "failed", "cancelled")


class Attempt(NamedTuple):
    """One execution, as the log and the database both name it."""

    run: int
    fence: int


@dataclass(frozen=True, slots=True)
class Line:
    """What an execution told. Lines are in the order in which they were written."""

    word: str  # begin, step, end
    kind: str  # loop, process, command, grandchild, external
    job: str
    attempt: Attempt
    number: int
    key: str
    pid: int
    ns: int  # CLOCK_BOOTTIME


@dataclass(frozen=True, slots=True)
class Run:
    id: int
    job: str
    state: str
    fence: int | None
    attempts: int
    retries: int
    version: int
    slot_at: datetime | None = None
    key: str | None = None  # its idempotency key


@dataclass(frozen=True, slots=True)
class Recorded:
    """An attempt in the database."""

    attempt: Attempt
    number: int
    outcome: str
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Entry:
    """Of the audit."""

    run: int
    sequence: int
    act: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of the slot ledger."""

    job: str
    slot_at: datetime
    to_at: datetime
    count: int
    decision: str
    run: int | None = None


@dataclass(frozen=True, slots=True)
class History:
    """`began_at` and `ended_at` bound the time in which every due slot must have been decided."""

    began_at: datetime
    ended_at: datetime
    lines: Sequence[Line] = ()
    runs: Mapping[int, Run] = field(default_factory=dict)
    recorded: Sequence[Recorded] = ()
    entries: Sequence[Entry] = ()
    stretches: Sequence[Stretch] = ()
    effects: Sequence[Attempt] = ()
    acknowledged: Sequence[tuple[int, str, str]] = ()  # run, job, idempotency key
    seen_over: Mapping[int, str] = field(default_factory=dict)  # run: how it was first seen to be over
    orphans: Sequence[str] = ()
    audit_verdict: str = ""  # what is wrong with the chain
    unwell: Sequence[str] = ()  # nodes that did not recover, or ended by themselves


def read(log: Path) -> list[Line]:
    """The jobs' own log. Raises `ValueError` for a line that is not whole."""
    return [_line(text) for text in log.read_text().splitlines()]


def _line(text: str) -> Line:
    word, kind, job, run, number, fence, key, pid, ns = text.split(" ")
    return Line(word, kind, job, Attempt(int(run), int(fence)), int(number), key, int(pid), int(ns))
