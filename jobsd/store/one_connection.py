"""Connections that are all one session, in a transaction that is never committed; with the calls of asyncpg.

What would be a transaction is a savepoint, and so is every statement outside of one: an error undoes what it would undo
in earnest and no more. Two transactions side by side take turns, as savepoints lie within each other.
"""

import asyncio
import re
from types import TracebackType
from typing import Any

import asyncpg

TURN_S = 10.0  # that one waits for another's transaction; in one task they are nested instead
CALLS = frozenset(
    {
        "copy_from_query",
        "copy_from_table",
        "copy_records_to_table",
        "copy_to_table",
        "execute",
        "executemany",
        "fetch",
        "fetchmany",
        "fetchrow",
        "fetchval",
        "prepare",
    }
)
CHECK_NOW = "SET CONSTRAINTS ALL IMMEDIATE"  # what a COMMIT would check
CHECK_LATER = "SET CONSTRAINTS ALL DEFERRED"
READ_ONLY = "SET TRANSACTION READ ONLY"
_WORD = re.compile(
    r"\s*(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT)(\s+(WORK|TRANSACTION))?\s*;?\s*", re.IGNORECASE
)


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

    async def admit(self, handle: "OneConnection") -> None:
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

    def __init__(self, handle: "OneConnection", *, readonly: bool = False) -> None:
        self.handle = handle
        self._one = handle.one
        self._readonly = readonly
        self._savepoint = self._one.con.transaction()
        self._task: asyncio.Task[Any] | None = None

    def excludes(self, handle: "OneConnection") -> bool:
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
            await self._one.keep(self._savepoint)

    async def rollback(self) -> None:
        async with self._one.turn:
            self._leave()
            await self._one.undo(self._savepoint)

    def _leave(self) -> None:
        """It is over, and so are those that were begun in it."""
        if self in self._one.blocks:
            del self._one.blocks[self._one.blocks.index(self) :]
        self._one.turn.notify_all()

    async def __aenter__(self) -> None:
        await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await (self.commit() if kind is None else self.rollback())


class OneConnection:
    """What looks like a connection of its own. Closing it does nothing: the others still need the session."""

    def __init__(self, one: OneTransaction) -> None:
        self.one = one
        self._spoken: list[Block] = []  # begun by the word BEGIN

    def __getattr__(self, name: str) -> Any:
        call = getattr(self.one.con, name)
        if name not in CALLS:
            return call

        async def taking_turns(*args: Any, **options: Any) -> Any:
            return await self._do(call, *args, **options)

        return taking_turns

    def transaction(self, *, isolation: str | None = None, readonly: bool = False, deferrable: bool = False) -> Block:
        """A savepoint: the isolation is that of the whole test, read committed."""
        return Block(self, readonly=readonly)

    def is_in_transaction(self) -> bool:
        return any(block.handle is self for block in self.one.blocks)

    def terminate(self) -> None: ...

    async def close(self, *, timeout: float | None = None) -> None: ...

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:
        if not args and (word := _WORD.fullmatch(query)):
            return await self._speak(word[1].split()[0].upper())
        return str(await self._do(self.one.con.execute, query, *args, timeout=timeout))

    async def abandon(self) -> None:
        """Undo what was left open, as a connection's end would."""
        self._spoken.clear()
        while mine := [block for block in self.one.blocks if block.handle is self]:
            await mine[-1].rollback()

    async def _speak(self, word: str) -> str:
        """BEGIN, COMMIT or ROLLBACK as a statement. What is not begun so cannot be ended so."""
        if word in ("BEGIN", "START"):
            self._spoken.append(self.transaction())
            await self._spoken[-1].start()
        elif not self._spoken or self._spoken[-1] not in self.one.blocks:
            raise RuntimeError(f"{word} ends a transaction that was not begun by BEGIN: leave that to its block")
        elif word in ("COMMIT", "END"):
            await self._spoken.pop().commit()
        else:
            await self._spoken.pop().rollback()
        return word

    async def _do(self, call: Any, *args: Any, **options: Any) -> Any:
        one = self.one
        async with one.turn:
            await one.admit(self)
            if self.is_in_transaction():
                return await call(*args, **options)
            savepoint = one.con.transaction()
            await savepoint.start()
            try:
                answer = await call(*args, **options)
                one.require_open()
            except BaseException:
                await one.undo(savepoint)
                raise
            await one.keep(savepoint)
            return answer
