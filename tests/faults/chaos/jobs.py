"""The handlers of the load. Each tells the log that it begins, of every step, and that it ends."""

import asyncio
import time
from collections.abc import Callable

from jobsd.sdk import JobContext, SyncJobContext
from tests.faults.chaos.registry import JOBS
from tests.faults.chaos.witness import STEP_S, tell

EFFECT = "INSERT INTO chaos.effect VALUES ($1, $2)"


def _teller(ctx: JobContext | SyncJobContext, kind: str) -> Callable[[str], None]:
    key = JOBS[ctx.job].key_of(ctx.params, ctx.run_id)
    return lambda word: tell(ctx.params["file"], word, kind, ctx.job, ctx.run_id, ctx.attempt, ctx.fence, key)


async def steps(ctx: JobContext) -> None:
    say = _teller(ctx, "loop")
    say("begin")
    for _ in range(ctx.params["steps"]):
        await asyncio.sleep(STEP_S)
        say("step")
    say("end")


def steps_apart(ctx: SyncJobContext) -> None:
    say = _teller(ctx, "process")
    say("begin")
    for _ in range(ctx.params["steps"]):
        time.sleep(STEP_S)
        say("step")
    say("end")


async def fails_at_first(ctx: JobContext) -> None:
    say = _teller(ctx, "process")
    say("begin")
    await asyncio.sleep(STEP_S)
    if ctx.attempt == 1:
        raise ConnectionError("as it happens")
    say("end")


async def writes_once(ctx: JobContext) -> None:
    say = _teller(ctx, "loop")
    say("begin")
    async with ctx.transaction() as tx:
        await tx.execute(EFFECT, ctx.run_id, ctx.fence)
        await asyncio.sleep(STEP_S)
        say("end")


def writes_once_apart(ctx: SyncJobContext) -> None:
    say = _teller(ctx, "process")
    say("begin")
    with ctx.transaction() as tx:
        tx.execute(EFFECT, ctx.run_id, ctx.fence)
        time.sleep(STEP_S)
        say("end")
