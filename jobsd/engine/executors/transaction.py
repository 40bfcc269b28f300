"""`ctx.transaction()`: the block in which a job writes and its run is completed. `store.effects` speaks SQL."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from jobsd.domain.outcome import Committed
from jobsd.domain.run import Fence, RunId
from jobsd.engine.executors.effects import Told
from jobsd.engine.executors.words import as_json
from jobsd.sdk import Connection, Transaction
from jobsd.store.db import Unavailable
from jobsd.store.effects import Effect

UNDO_S = 5.0  # from the job's leaving the block by an error to its connection being cut


class _Writing:
    """The job's connection inside the block, and the result that it gives its run."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.result: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@asynccontextmanager
async def transaction(
    connect: Callable[[], AbstractAsyncContextManager[Connection]],
    schema: str,
    run: int,
    fence: int,
    told: Told,
    *,
    dry_run: bool = False,
) -> AsyncIterator[Transaction]:
    """The block. Left without an error, rows and completion are committed as one; else nothing of it is kept.

    Raises `FenceLost`; `UnfitResult`; `Unavailable` when the database went away; and what the job raises.
    """
    async with connect() as connection:
        effect = Effect(connection, schema, RunId(run), Fence(fence))
        writing = _Writing(connection)
        try:
            await effect.begin()
            yield cast("Transaction", writing)
            result = as_json(writing.result)
            ended_at = None if dry_run else await effect.complete(result)
        except BaseException:
            await effect.undo(UNDO_S)
            raise
        if ended_at is None:
            await effect.undo(UNDO_S)
            told.rehearsed(result)
        else:
            await commit(effect, Committed(ended_at, result), told)


async def commit(effect: Effect, end: Committed, told: Told) -> None:
    """Commit, and tell how it went. Cancelled meanwhile, it waits for the answer first: it may not be guessed at."""
    told.committing()
    sent = asyncio.ensure_future(effect.commit())
    cancelled: asyncio.CancelledError | None = None
    while not sent.done():
        try:
            await asyncio.wait({sent})
        except asyncio.CancelledError as asked:
            cancelled = asked
    failed = sent.exception()
    if failed is None:
        told.committed(end)
    elif not isinstance(failed, Unavailable):
        told.undone()
    if wrong := cancelled or failed:
        raise wrong
