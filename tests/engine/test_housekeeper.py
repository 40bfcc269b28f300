"""The housekeeper: duties beside each other, each at its period, none at the mercy of another."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from jobsd.domain.events import DatabaseTrouble, Event
from jobsd.engine.here import Here
from jobsd.engine.housekeeper import Duty, Housekeeper
from jobsd.store.db import Db, Unavailable
from tests.support.engine import identity, node

OFTEN_S = 0.01
NEVER_S = 3600.0


def duty(name: str, work: Callable[[], Awaitable[None]], every_s: float = OFTEN_S) -> Duty:
    return Duty(name, lambda: every_s, work)


async def nothing() -> None:
    return None


@asynccontextmanager
async def kept(here: Here, *duties: Duty) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(Housekeeper(here, duties).run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_duty_that_takes_long_holds_up_no_other(db: Db) -> None:
    done = asyncio.Semaphore(0)

    async def count() -> None:
        done.release()

    async with node(db) as here, kept(here, duty("long", asyncio.Event().wait), duty("short", count)):  # type: ignore[arg-type]
        for _ in range(3):
            await done.acquire()


async def test_a_duty_that_is_woken_is_done_at_once(db: Db) -> None:
    done = asyncio.Semaphore(0)

    async def count() -> None:
        done.release()

    rare = duty("rare", count, NEVER_S)
    async with node(db) as here, kept(here, rare):
        await done.acquire()
        rare.wake()
        await done.acquire()


@pytest.mark.req("P6")
async def test_without_the_database_a_duty_is_told_of_and_done_again(db: Db) -> None:
    heard: list[Event] = []
    rounds = asyncio.Semaphore(0)

    async def fails() -> None:
        rounds.release()
        raise Unavailable(ConnectionError("gone"))

    async with node(db) as there:
        here = Here(there.db, there.keeper, there.pulse, heard.append, identity("one"))
        async with kept(here, duty("tidying", fails)):
            for _ in range(2):
                await rounds.acquire()

    assert heard[0] == DatabaseTrouble("tidying", "ConnectionError: gone")


@pytest.mark.req("P6")
async def test_a_fenced_node_does_none(db: Db) -> None:
    done = asyncio.Event()

    async def work() -> None:
        done.set()

    async with node(db) as here:
        here.keeper.up = False
        async with kept(here, duty("idle", work)):
            while "idle" not in here.pulse.beats():
                await asyncio.sleep(0)

    assert not done.is_set()


@pytest.mark.req("P12")
async def test_a_duty_that_fails_otherwise_ends_the_loop(db: Db) -> None:
    async def fails() -> None:
        raise ZeroDivisionError

    async with node(db) as here, kept(here, duty("broken", fails), duty("fine", nothing)) as task:
        await asyncio.wait({task})

    assert isinstance(task.exception(), ExceptionGroup)


@pytest.mark.req("P12")
async def test_each_duty_shows_that_it_advances(db: Db) -> None:
    rare = duty("rare", nothing, NEVER_S)
    async with node(db) as here, kept(here, rare):
        while "rare" not in here.pulse.beats():
            await asyncio.sleep(0)

    assert here.pulse.beats()["rare"].allowed_s > NEVER_S
