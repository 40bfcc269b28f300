"""A desk on a node for tests of runs that other programs execute: what is asked there, and what was told."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.domain.events import Event
from jobsd.domain.run import Fence, RunId
from jobsd.engine.here import Here
from jobsd.operations import external, runs
from jobsd.operations.external import Desk
from jobsd.operations.run_views import RunView
from jobsd.operations.told import Told
from jobsd.store.db import Db
from jobsd.store.history import Ended
from tests.support.engine import enqueued, node, registered
from tests.support.web import registry_of

JOBS = """
[jobs.outside]
external = true
retry = { attempts = 1, base = "1s", cap = "1s" }

[jobs.several]
external = true
concurrency = 2

[jobs.seldom]
external = true
lock_key = "{run_id}"
rate = "1/h"

[jobs.atomic]
external = true
atomic = true

[jobs.shared]
external = true
lock_key = "both"

[jobs.here]
command = ["true"]
lock_key = "both"

[jobs.inside]
handler = "tests.support.handlers:import_course"
params = { course_id = "AAA" }
"""
ALICE = "unix:alice"


@dataclass
class Office:
    """A desk on a node, and what was told there."""

    desk: Desk
    here: Here
    events: list[Event] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)

    async def queued(self, name: str = "outside", **keys: Any) -> RunId:
        job = self.desk.registry.jobs[name]
        keys = {"key": job.key_template, **keys}
        (run,) = await enqueued(self.desk.db, name, **keys)
        return run

    async def started(self, name: str = "outside", **keys: Any) -> RunView:
        return await external.start(self.desk, await self.queued(name, **keys), "by hand")


@asynccontextmanager
async def open_office(db: Db, folder: Path) -> AsyncIterator[Office]:
    """One on a node of its own, with the jobs above."""
    registry = registry_of(folder, JOBS)
    await registered(db, *registry.jobs.values())
    async with node(db) as here:
        events, ended = list[Event](), list[Ended]()

        def over(each: Sequence[Ended]) -> None:
            ended.extend(each)

        yield Office(Desk(db, registry, here.keeper.node, ALICE, Told(events.append, over)), here, events, ended)


def fence_of(run: RunView) -> Fence:
    assert run.fence is not None
    return Fence(run.fence)


async def refused(awaited: Any) -> JobsdError:
    with pytest.raises(JobsdError) as refusal:
        await awaited
    return refusal.value


def code_of(error: JobsdError) -> str:
    return error.problems[0].code


async def acts(db: Db, run: int) -> list[tuple[str, str, str | None]]:
    return [(entry.act, entry.actor, entry.reason) for entry in await runs.audit(db, RunId(run))]
