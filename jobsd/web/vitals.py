"""The facts that health is judged by: what the daemon knows of itself, and what the database answers."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from jobsd.domain.errors import JobsdError
from jobsd.store import queue
from jobsd.store.db import Db, Unavailable

DATABASE_S = 2.0  # no answer within so long is none


@dataclass(frozen=True, slots=True)
class LoopAge:
    """Seconds since a loop last advanced, and how many are allowed."""

    age_s: float
    allowed_s: float

    @property
    def advances(self) -> bool:
        return self.age_s <= self.allowed_s


@dataclass(frozen=True, slots=True)
class Reload:
    """The last time the configuration was read again. `text` is the plan's line, or what was wrong."""

    at: datetime
    ok: bool
    text: str


@dataclass(frozen=True, slots=True)
class Unwritten:
    """Settlements that the database has not taken yet, the oldest for so long; how many of them are on disk."""

    count: int = 0
    oldest_s: float = 0.0
    spooled: int = 0
    refused: str = ""  # why the database took nothing at the last try
    spool_error: str = ""  # why the spool did not


@dataclass(frozen=True, slots=True)
class Vitals:
    """What the daemon knows of itself without asking anybody."""

    loops: Mapping[str, LoopAge]
    lock_session_up: bool
    draining: bool
    state_dir: Path
    reload: Reload | None = None
    log_lines_lost: int = 0  # nought when the last was long ago
    unwritten: Unwritten = Unwritten()
    canary_s: float | None = None  # how long the latest canary run took


@dataclass(frozen=True, slots=True)
class Answer:
    """What the database said: how deep the queue is, and after how long. `error` when it said nothing."""

    depth: queue.Depth | None
    took_s: float
    error: str = ""


async def asked(db: Db, limit_s: float = DATABASE_S) -> Answer:
    """Ask the database, for a short time; also the wait for a free connection counts."""
    began = time.monotonic()
    try:
        async with asyncio.timeout(limit_s):
            depth = await queue.depth(db)
    except TimeoutError:
        return Answer(None, time.monotonic() - began, f"no answer within {limit_s:g} s")
    except (Unavailable, JobsdError) as error:
        return Answer(None, time.monotonic() - began, str(error))
    return Answer(depth, time.monotonic() - began)
