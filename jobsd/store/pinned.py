"""A `Db` whose every session is one transaction, which is rolled back. For tests of jobs (`jobsd.testing`)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import cast

import asyncpg

from jobsd.store import db
from jobsd.store.one_connection import OneConnection
from jobsd.store.one_transaction import OneTransaction
from jobsd.store.servers import Connection

CLOSE_S = 5.0
STATEMENT_S = 60.0
# What goes with a connection: its settings, its temporary tables, its advisory locks.
AS_NEW = ("RESET ALL", "DISCARD TEMP", "SELECT pg_advisory_unlock_all()")


class Pinned(db.Db):
    """A `Db` whose every session is the one transaction."""

    def __init__(self, con: asyncpg.Connection, schema: str) -> None:
        super().__init__("", schema, 1, "jobsd test", STATEMENT_S)
        self.one = OneTransaction(con)
        self.connection = OneConnection(self.one)
        self._aside = OneConnection(self.one, aside=True)
        self._own = 0  # open just now

    @asynccontextmanager
    async def session(self) -> AsyncIterator[db.Session]:
        yield db.Session(cast("Connection", self._aside), self.schema, STATEMENT_S)

    @asynccontextmanager
    async def own(self, *, fence: int, run_id: int) -> AsyncIterator[OneConnection]:
        """What a job gets for a connection of its own: `dedicated`, in the transaction."""
        con = OneConnection(self.one)
        self._own += 1
        try:
            await con.fetchrow(db.IDENTIFY, str(fence), str(run_id))
            yield con
        finally:
            self._own -= 1
            await con.abandon()
            for each in AS_NEW if not self._own else ():
                await con.execute(each)

    async def close(self) -> None:
        """Nothing: `rolled_back` does."""


@asynccontextmanager
async def rolled_back(url: str, schema: str = "jobsd") -> AsyncIterator[Pinned]:
    """A transaction for the block; undone at its end, whatever happens. Raises `Unavailable`, `JobsdError`."""
    con = await db.connect(url, application_name="jobsd test", settings={"lock_timeout": "10s"}, path=None)
    try:
        await con.transaction().start()
        yield Pinned(con, schema)
    finally:
        with suppress(Exception):  # closing rolls back; a connection that is broken has done so already
            await db.bounded(con, CLOSE_S, con.close)
        con.terminate()
