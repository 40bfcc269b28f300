"""What looks like a connection of its own, with the calls of asyncpg, and is a share in `OneTransaction`."""

import re
from typing import Any

from jobsd.store.one_transaction import Block, OneTransaction

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
_WORD = re.compile(
    r"\s*(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT)(\s+(WORK|TRANSACTION))?\s*;?\s*", re.IGNORECASE
)


class OneConnection:
    """What looks like a connection of its own. Closing it does nothing: the others still need the session.

    One `aside` writes even while another's block is open, and so into that block.
    """

    def __init__(self, one: OneTransaction, *, aside: bool = False) -> None:
        self.one = one
        self._aside = aside
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
        return Block(self.one, self, readonly=readonly)

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
            if not self._aside:
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
