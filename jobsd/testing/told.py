"""What a job says in a test: kept for the test, and written as always."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from jobsd.domain.run import ClaimedRun
from jobsd.engine.executors.pipeline import Progress
from jobsd.store import reports
from jobsd.store.db import Unavailable
from jobsd.store.one_transaction import Block
from jobsd.store.pinned import Pinned
from jobsd.testing.ended import Message, Words

Write = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class _Written:
    """Something told, and the transactions of the job that it was told in."""

    write: Write
    blocks: Sequence[Block]
    failed: bool = False

    @property
    def lost(self) -> bool:
        return self.failed or any(block.undone for block in self.blocks)


class Told:
    """The report of one attempt."""

    def __init__(self, db: Pinned, run: ClaimedRun) -> None:
        self._said: list[Message] = []
        self._shown: list[Progress] = []
        self._heartbeats = 0
        self._db = db
        self._run = run
        self._written: list[_Written] = []

    async def progress(self, told: Progress) -> None:
        self._shown.append(told)
        db, run = self._db, self._run
        await self._write(
            lambda: reports.progress(db, run.id, run.fence, told.fraction, told.note, step=told.step, steps=told.steps)
        )

    async def heartbeat(self) -> None:
        self._heartbeats += 1
        await self._write(lambda: reports.heartbeat(self._db, self._run.id, self._run.fence))

    async def message(self, level: str, text: str) -> None:
        self._said.append(Message(level, text))
        await self._write(lambda: reports.message(self._db, self._run.id, self._run.fence, level, text))

    def words(self) -> Words:
        shown = tuple((each.fraction, each.note) for each in self._shown)
        return Words(tuple(self._said), shown, self._heartbeats)

    async def flush(self) -> None:
        """Write again what was undone with one of the job's transactions: in earnest it is written beside them."""
        written, self._written = self._written, []
        for each in written:
            if each.lost:
                await each.write()

    async def _write(self, write: Write) -> None:
        blocks = tuple(self._db.one.blocks)
        if not blocks:
            await self.flush()
        try:
            await write()
        except Unavailable:
            raise
        except Exception:  # the job's transaction is broken: nothing more goes into it
            self._written.append(_Written(write, blocks, failed=True))
        else:
            self._written.append(_Written(write, blocks))
