"""A transaction that is never committed, shared by what look like many connections (`one_connection`).

What would be a transaction is a savepoint: an error undoes what it would undo in earnest and no more. Two of them side
by side take turns, as savepoints lie within each other.
"""

import asyncio
from types import TracebackType
from typing import Any

import asyncpg

TURN_S = 10.0  # that one waits for another's transaction; in one task they are nested instead
CHECK_NOW = "SET CONSTRAINTS ALL IMMEDIATE"  # what a COMMIT would check
CHECK_LATER = "SET CONSTRAINTS ALL DEFERRED"
READ_ONLY = "SET TRANSACTION READ ONLY"


class OneTransaction:
    """What all of them share: the session, whose turn it is, and the blocks that are open, the outermost first."""

    def __init__(self, con: asyncpg.Connection) -> None:
        self.con = con
        self.turn = asyncio.Condition()
        self.blocks: list[Block] = []

    def require_open(self) -> None:
        """Raises `RuntimeError` when a COMMIT or ROLLBACK among other statements has ended the transaction itself."""
        if not self.con.is_in_transaction():
            raise RuntimeError("these statements have ended the test's transaction: what they wrote stays, or is gone")

    async def admit(self, handle: object) -> None:
        """Wait, with the turn taken, for other tasks' blocks on other connections. Raises `RuntimeError` after 10 s."""
        try:
            async with asyncio.timeout(TURN_S):
                await self.turn.wait_for(lambda: not any(block.excludes(handle) for block in self.blocks))
        except TimeoutError:
            raise RuntimeError(
                "it waits for another transaction of the job: in a test all its connections are one"
            ) from None

    async def undo(self, savepoint: Any) -> None:
        if self.con.is_in_transaction():
            await savepoint.rollback()

    async def keep(self, savepoint: Any) -> None:
        """End a savepoint well; the outermost one as a COMMIT would, with the constraints that wait for it."""
        try:
            if not self.blocks:
                await self.con.execute(CHECK_NOW)
                await self.con.execute(CHECK_LATER)
            await savepoint.commit()
        except BaseException:
            await self.undo(savepoint)
            raise


class Block:
    """What the driver's `transaction()` gives, as a savepoint."""

    def __init__(self, one: OneTransaction, handle: object, *, readonly: bool = False) -> None:
        self.handle = handle  # the connection that it was begun on
        self._one = one
        self._readonly = readonly
        self._savepoint = self._one.con.transaction()
        self._task: asyncio.Task[Any] | None = None
        self.undone = False

    def excludes(self, handle: object) -> bool:
        return self.handle is not handle and self._task is not asyncio.current_task()

    async def start(self) -> None:
        async with self._one.turn:
            await self._one.admit(self.handle)
            self._task = asyncio.current_task()
            await self._savepoint.start()
            self._one.blocks.append(self)
            if self._readonly:
                await self._one.con.execute(READ_ONLY)

    async def commit(self) -> None:
        async with self._one.turn:
            self._leave()
            try:
                await self._one.keep(self._savepoint)
            except BaseException:
                self.undone = True
                raise

    async def rollback(self) -> None:
        async with self._one.turn:
            self._leave(undone=True)
            await self._one.undo(self._savepoint)

    def _leave(self, *, undone: bool = False) -> None:
        """It is over, and so are those that were begun in it."""
        blocks = self._one.blocks
        for block in blocks[blocks.index(self) :] if self in blocks else [self]:
            block.undone |= undone
        if self in blocks:
            del blocks[blocks.index(self) :]
        self._one.turn.notify_all()

    async def __aenter__(self) -> None:
        await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.commit() if kind is None else self.rollback())
