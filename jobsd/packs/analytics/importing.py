"""The job `import_events`: files of learning events into `analytics.event`.

All of the files are read and checked before anything is stored: a set with a mistake changes nothing. Then events are
stored in batches, each in a transaction of its own; a run that is stopped leaves whole batches, the next adds the rest.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Protocol

import anyio.to_thread
from pydantic import BaseModel, ConfigDict, Field, field_validator

from jobsd.packs.analytics import files, staging
from jobsd.packs.analytics.event import MISTAKES_TOLD, BadRow, Event, Mistakes
from jobsd.packs.analytics.files import Source
from jobsd.packs.analytics.oulad import Oulad
from jobsd.packs.analytics.rows import CsvRows, JsonLines
from jobsd.sdk import Connection, JobContext, dry_run_aware

CHUNK = 2_000  # rows parsed and copied at once: a few milliseconds of the loop's time


class ImportParams(BaseModel):
    """Which files, and how to take them."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    format: Literal["oulad", "jsonl", "csv"] = Field(description="what the files hold")
    folder: Path = Field(Path(), description="where they are; relative to the daemon's working directory")
    files: tuple[Path, ...] = Field((), description="which of them, relative to folder; none: all of the format")
    source: str = Field("", max_length=100, description="keeps the keys of two platforms apart; default: the format")
    rebase: bool | date = Field(
        False, description="move all dates by whole days: the latest becomes today, or this day"
    )
    batch: int = Field(20_000, ge=1, le=1_000_000, description="events stored in one transaction")

    @field_validator("rebase")
    @classmethod
    def _within_reason(cls, rebase: bool | date) -> bool | date:
        if not isinstance(rebase, bool) and not 1970 <= rebase.year < 2200:
            raise ValueError(f"expected true, false or a day from 1970 to 2199, got {rebase}")
        return rebase

    @property
    def key_space(self) -> str:
        return self.source or self.format


class Reader(Protocol):
    paths: list[Path]

    def events(self, source: Source) -> Iterator[Event | BadRow]: ...


@dataclass(slots=True)
class Staged:
    """What was read."""

    files: int
    kinds: Counter[str] = field(default_factory=Counter)
    unknown_days: int = 0


@dry_run_aware
async def import_events(ctx: JobContext, params: ImportParams) -> dict[str, Any]:
    """Import events; a second import of the same ones adds none. A dry run reads and checks all, and stores nothing.

    Raises `BadInput` with every mistake's file and line.
    """
    began = monotonic()
    reader = _reader(params)
    async with ctx.connect() as connection:
        await staging.create(connection)
        staged = await _stage(ctx, connection, reader)
        shift_days = await _shift(ctx, connection, params)
        if ctx.dry_run:
            new = await staging.count_new(connection, params.key_space)
        else:
            new = await _store(ctx, connection, params, shift_days, staged.kinds.total())
    return {
        **({"dry_run": True} if ctx.dry_run else {}),
        "files": staged.files,
        "events": staged.kinds.total(),
        "new": new.total(),
        "unknown_days": staged.unknown_days,
        "shift_days": shift_days,
        "kinds": dict(sorted(staged.kinds.items())),
        "new_kinds": dict(sorted(new.items())),
        "seconds": round(monotonic() - began, 3),
    }


def _reader(params: ImportParams) -> Reader:
    if params.format == "oulad":
        return Oulad(files.find(params.folder, params.files, ".csv"))
    rows = JsonLines if params.format == "jsonl" else CsvRows
    return rows(files.find(params.folder, params.files, rows.suffix))


async def _stage(ctx: JobContext, connection: Connection, reader: Reader) -> Staged:
    staged, mistakes = Staged(len(reader.paths)), Mistakes([])
    before, size = 0, sum(path.stat().st_size for path in reader.paths)
    for path in reader.paths:
        with files.opened(path) as source:
            events, more = reader.events(source), True
            while more and mistakes.count <= MISTAKES_TOLD:
                chunk, more = await anyio.to_thread.run_sync(_take, source, events, mistakes)
                if not mistakes.count:
                    await staging.add(connection, staged.kinds.total(), chunk)
                staged.kinds.update(event.kind for event in chunk)
                staged.unknown_days += sum(event.day_unknown for event in chunk)
                read = (before + source.read) / max(1, size)
                await ctx.progress(min(1.0, read) / 2, f"{path.name}: {staged.kinds.total():,} events read")
            before += source.read
    mistakes.raise_any()
    return staged


def _take(source: Source, events: Iterator[Event | BadRow], mistakes: Mistakes) -> tuple[list[Event], bool]:
    """The next good rows, and whether there may be more. In a thread: parsing must not hold up the loop."""
    good: list[Event] = []
    seen = 0
    for event in islice(events, CHUNK):
        seen += 1
        if isinstance(event, BadRow):
            mistakes.add(source.place, str(event))
        else:
            good.append(event)
    return good, seen == CHUNK


async def _shift(ctx: JobContext, connection: Connection, params: ImportParams) -> int:
    """By how many days to move the events.

    A set that is stored in part keeps the shift of that part, so that a rebased import which goes on another day, or
    brings what is new, does not tear the set apart.
    """
    if params.rebase is False:
        return 0
    if (stored := await staging.stored_shift(connection, params.key_space)) is not None:
        await ctx.info(f"some of these events are stored already, moved by {stored} days: the others are moved alike")
        return stored
    return await staging.shift_to(connection, None if params.rebase is True else params.rebase)


async def _store(
    ctx: JobContext, connection: Connection, params: ImportParams, shift_days: int, total: int
) -> Counter[str]:
    new: Counter[str] = Counter()
    async for behind, added in staging.store(connection, params.key_space, shift_days, total, params.batch):
        new += added
        await ctx.progress(0.5 + behind / total / 2, f"{behind:,} of {total:,} events stored, {new.total():,} new")
    return new
