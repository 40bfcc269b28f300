"""What a job says in a test: kept for the test, and written as always."""

from collections.abc import Awaitable, Callable

from jobsd.domain.run import ClaimedRun
from jobsd.engine.executors.pipeline import Progress
from jobsd.store import reports
from jobsd.store.pinned import Pinned
from jobsd.testing.ended import Message, Words

Write = Callable[[], Awaitable[bool]]


class Told:
    """The report of one attempt.

    In earnest reports go over connections of their own. Here, what is told within the job's transaction waits for its
    end, so that it is not undone with it.
    """

    def __init__(self, db: Pinned, run: ClaimedRun) -> None:
        self._said: list[Message] = []
        self._shown: list[Progress] = []
        self._heartbeats = 0
        self._db = db
        self._run = run
        self._waiting: list[Write] = []

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
        """Write what has waited."""
        waiting, self._waiting = self._waiting, []
        for write in waiting:
            await write()

    async def _write(self, write: Write) -> None:
        self._waiting.append(write)
        if not self._db.one.blocks:
            await self.flush()
