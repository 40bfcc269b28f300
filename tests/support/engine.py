"""Pieces of a node for tests of store and engine: a keeper on a real lock session, jobs and runs in the database."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from jobsd.domain.events import Event
from jobsd.domain.job import JobDefinition
from jobsd.domain.run import RunId
from jobsd.engine.here import Here
from jobsd.engine.keeper import Keeper, Where
from jobsd.engine.pulse import Pulse
from jobsd.registry.settings import LeaseSettings
from jobsd.store import jobs, queue
from jobsd.store.db import Db
from jobsd.store.nodes import Identity
from jobsd.store.queue import NewRun
from jobsd.store.runs import ClaimRequest


def identity(name: str) -> Identity:
    return Identity(name, "testhost", f"instance-{name}", "boot", 4711, "0")


def quick(**changes: Any) -> LeaseSettings:
    """The same order of times as the defaults, shorter."""
    times = {"beat": 0.1, "deadline": 1.0, "adopt": 2.0, "lease": 3.0, "kill": 0.5, "rescue": 6.0} | changes
    return LeaseSettings(**{name: timedelta(seconds=value) for name, value in times.items()})


STILL = quick(beat=600.0, adopt=900.0, lease=1000.0, rescue=2000.0)  # beats once, so that a test may set the clock


@asynccontextmanager
async def node(db: Db, name: str = "one", lease: LeaseSettings | None = None) -> AsyncIterator[Here]:
    """A node with its lock session and nothing else running."""
    events: list[Event] = []
    pulse = Pulse()
    who = identity(name)
    keeper = Keeper(Where(db.url, db.schema, who, ("default",), "hash"), lease or quick(), pulse, events.append)
    await keeper.open()
    try:
        yield Here(db, keeper, pulse, events.append, who)
    finally:
        await keeper.close()


def job(name: str = "work", **keys: Any) -> JobDefinition:
    return JobDefinition.model_validate({"name": name, "command": ["true"], **keys})


async def registered(db: Db, *definitions: JobDefinition) -> None:
    async with db.transaction() as session:
        await jobs.register(session, definitions)


async def enqueued(db: Db, name: str = "work", count: int = 1, key: str | None = None, **keys: Any) -> list[RunId]:
    ids = await jobs.lock_keys(db, [key]) if key else {}
    new = [NewRun(name, "test", lock_key=ids.get(key or ""), **keys) for _ in range(count)]
    return [each.id for each in await queue.enqueue(db, new)]


def request(
    here: Here, *names: str, limit: int = 100, seats: Sequence[tuple[str, int]] = (), **keys: Any
) -> ClaimRequest:
    return ClaimRequest(
        names or ("work",), seats, keys.get("kept", ()), keys.get("kept_runs", ()), limit, here.keeper.node, here.actor
    )
