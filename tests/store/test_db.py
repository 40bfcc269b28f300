"""A connection that is lost, at whatever step, and a server that lets nobody in: `Unavailable`, and nothing else."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from jobsd.domain.errors import JobsdError
from jobsd.store.db import Db, Session, Unavailable, bounded, connect
from jobsd.store.effects import Effect
from jobsd.store.reach import cannot_reach
from tests.support.postgres import OwnServer


async def cut(db: Db, con: asyncpg.Connection) -> None:
    """End its server process; back when the driver has seen it."""
    seen = asyncio.Event()
    con.add_termination_listener(lambda _con: seen.set())
    await db.fetchval("SELECT pg_terminate_backend($1, 5000)", con.get_server_pid())
    async with asyncio.timeout(10):
        await seen.wait()


async def begins(db: Db, session: Session) -> None:
    await cut(db, session.con)
    async with session.transaction():
        pass


async def commits(db: Db, session: Session) -> None:
    async with session.transaction():
        await session.execute("SELECT 1")
        await cut(db, session.con)


async def rolls_back(db: Db, session: Session) -> None:
    async with session.transaction():
        await session.execute("SELECT 1")
        await cut(db, session.con)
        await session.execute("SELECT 1")


async def asks(db: Db, session: Session) -> None:
    await cut(db, session.con)
    await session.fetchval("SELECT 1")


async def commits_a_job(db: Db, session: Session) -> None:
    effect = Effect(session.con, db.schema, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="has moved on"):
        await effect.begin()
    await cut(db, session.con)
    await effect.commit()


@pytest.mark.req("P6", "P11")
@pytest.mark.parametrize("step", [begins, commits, rolls_back, asks, commits_a_job])
async def test_a_connection_that_is_found_closed_at_any_step_is_unavailable(db: Db, step: Callable[..., Any]) -> None:
    async with db.session() as session:
        with pytest.raises(Unavailable):
            await step(db, session)

    assert await db.fetchval("SELECT 1") == 1


@pytest.mark.req("P6")
@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("unable to perform operation on <UnixTransport closed=True>; the handler is closed"),
        AttributeError("'NoneType' object has no attribute 'bind_execute'"),
        asyncio.CancelledError(),
    ],
)
async def test_whatever_the_driver_raises_on_a_connection_that_is_gone_is_unavailable(
    db: Db, error: BaseException
) -> None:
    async def gives_up(con: asyncpg.Connection) -> None:
        con.terminate()
        raise error

    async with db.session() as session:
        with pytest.raises(Unavailable):
            await bounded(session.con, 5, gives_up, session.con)


async def test_a_mistake_of_ours_on_a_sound_connection_stays_what_it_is(db: Db) -> None:
    async with db.session() as session:
        with pytest.raises(asyncpg.UndefinedTableError):
            await session.execute("SELECT FROM nowhere")
        with pytest.raises(TypeError):
            await bounded(session.con, 5, session.con.fetchval)


@pytest.mark.req("P6", "C8")
@pytest.mark.parametrize(
    ("away", "refused"),
    [("ALLOW_CONNECTIONS false", False), ("CONNECTION LIMIT 0", False), ("RENAME TO elsewhere", True)],
)
async def test_a_database_that_lets_nobody_in_is_unavailable_and_may_come_back(
    postgres_server: OwnServer, away: str, refused: bool
) -> None:
    url = await postgres_server.database()
    admin = await asyncpg.connect(postgres_server.url())
    await admin.execute("CREATE ROLE app LOGIN")  # a superuser is not counted
    await admin.execute(f"ALTER DATABASE jobsd {away}")
    await admin.close()

    with pytest.raises(Unavailable) as gone:
        await connect(url.replace("//postgres@", "//app@"), application_name="test")

    assert gone.value.refused == refused
    assert cannot_reach(url, gone.value, 1, 0).problems[0].code == ("E0303" if refused else "E0302")


@pytest.mark.req("C8")
@pytest.mark.parametrize("url", ["mysql://x", "postgresql://u@h:port/d", "postgresql://u@h/d?sslmode=bogus"])
async def test_a_url_that_cannot_be_used_is_told_at_once(url: str) -> None:
    with pytest.raises(JobsdError, match=r"E0302.*the database URL cannot be used"):
        await connect(url, application_name="test")


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)"), "connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "name or service not known"),
        (ssl.SSLError(1, "[SSL] bad certificate"), "SSLError: [SSL] bad certificate"),
        (TimeoutError("no answer within 5 s"), "TimeoutError: no answer within 5 s"),
    ],
)
def test_what_keeps_the_database_away_is_told_in_a_persons_words(cause: Exception, told: str) -> None:
    assert told in str(Unavailable(cause))
    assert "Errno" not in str(Unavailable(cause))
