"""Jobs for daemons under test. They tell of themselves on the named pipe `traces` of their working directory."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jobsd.sdk import Cancel, GiveUp, JobContext, RetryLater, SyncJobContext

PAUSE_S = 0.02


def trace(*words: object) -> None:
    """One line, whole, whoever else writes."""
    pipe = os.open("traces", os.O_WRONLY | os.O_APPEND)
    try:
        os.write(pipe, f"{' '.join(map(str, words))}\n".encode())
    finally:
        os.close(pipe)


async def waits(ctx: JobContext) -> str:
    """Until there is a file with the name `params.for` ("go"); a second attempt does not wait."""
    trace("begun", ctx.job, ctx.attempt)
    while ctx.attempt == 1 and not Path(ctx.params.get("for", "go")).exists():
        await asyncio.sleep(PAUSE_S)
    trace("ended", ctx.job, ctx.attempt)
    return "waited"


def hangs_with_a_family(ctx: SyncJobContext) -> None:
    """A plain function with a grandchild in a session of its own; a second attempt does not hang."""
    if ctx.attempt == 1:
        subprocess.Popen(["setsid", "sh", "-c", f"echo grandchild {ctx.job} $$ > traces; exec sleep 1000"])
        trace("begun", ctx.job, ctx.attempt, os.getpid())
        time.sleep(1000)


async def hangs_apart(ctx: JobContext) -> None:
    """For isolation = "process"; a second attempt does not hang."""
    if ctx.attempt == 1:
        trace("begun", ctx.job, ctx.attempt, os.getpid())
        await asyncio.Event().wait()


async def ignores(ctx: JobContext) -> str:
    """Goes on whoever cancels it, until there is a file `go`."""
    trace("begun", ctx.job, ctx.attempt)
    while not Path("go").exists():
        try:
            await asyncio.sleep(PAUSE_S)
        except asyncio.CancelledError:
            trace("ignored", ctx.job, ctx.attempt)
    trace("ended", ctx.job, ctx.attempt)
    return "at last"


async def cleans_up(ctx: JobContext) -> None:
    """Takes its time for it when it is cancelled."""
    trace("begun", ctx.job, ctx.attempt)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(PAUSE_S)
        trace("cleaned", ctx.job)


async def ticks(ctx: JobContext) -> None:
    """A little work, at once."""
    trace("tick", ctx.job, ctx.run_id)


async def writes_a_log(ctx: JobContext) -> None:
    """A line at its begin and one at its end, each appended in one call, so that their order is that of time."""
    for word in ("begin", "end"):
        file = os.open(ctx.params["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{word} {ctx.job} {ctx.slot_at:%Y-%m-%dT%H:%M:%S} {ctx.fence} {os.getpid()}\n".encode())
        os.close(file)
        await asyncio.sleep(PAUSE_S)


def recurse() -> None:
    recurse()


async def raises_what_it_knows(ctx: JobContext) -> None:
    await ctx.info(f"trying with {ctx.params['token']}")
    raise ConnectionError(f"refused: {dict(ctx.params)}")


async def misbehaves(ctx: JobContext) -> Any:
    """As `params.how` says."""
    match ctx.params["how"]:
        case "exit":
            sys.exit(3)
        case "interrupt":
            raise KeyboardInterrupt
        case "recurse":
            recurse()
        case "garbage":
            return object()
        case "huge":
            return "x" * 50_000_000
        case "flood":
            for number in range(200_000):
                print("flood", number)
            for number in range(500):
                await ctx.info(f"message {number} " + "y" * 1000)
                await ctx.progress(number / 500, "on")
        case "cancel":
            raise asyncio.CancelledError
        case "orphan":
            task = asyncio.create_task(exits_later())
            trace("orphan", task.get_name())
    return None


async def exits_later() -> None:
    await asyncio.sleep(PAUSE_S)
    sys.exit(7)


async def blocks_the_loop(ctx: JobContext) -> None:
    time.sleep(2)  # what no job in the loop may do


async def marks(ctx: JobContext) -> None:
    """One line when it begins and one when it ends, with its key if it has one."""
    mark = f"{ctx.run_id} {ctx.fence} {ctx.params['key'] if ctx.job == 'keyed' else '-'}\n".encode()
    file = os.open(ctx.params["file"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, b"begin " + mark)
        await asyncio.sleep(0 if ctx.run_id % 10 else 0.05)
        os.write(file, b"end " + mark)
    finally:
        os.close(file)


async def writes_exactly_once(ctx: JobContext) -> str:
    """Its row in its own transaction; the first attempt stops where `params.stop` says."""
    stop, first = ctx.params["stop"], ctx.attempt == 1
    while not Path("begin").exists():
        await asyncio.sleep(PAUSE_S)
    async with ctx.transaction() as tx:
        if first and stop == "begun":
            await tx.execute("LOCK TABLE gate")
        await tx.execute("INSERT INTO effect VALUES ($1, $2, $3)", ctx.run_id, stop, ctx.attempt)
        if first and stop == "written":
            await tx.execute("LOCK TABLE gate")
        tx.result = {"attempt": ctx.attempt}
    if stop == "committed":
        trace("committed", ctx.job)
        await asyncio.Event().wait()
    return "not what is kept"


def writes_exactly_once_plainly(ctx: SyncJobContext) -> str:
    stop, first = ctx.params["stop"], ctx.attempt == 1
    while not Path("begin").exists():
        time.sleep(PAUSE_S)
    with ctx.transaction() as tx:
        if first and stop == "begun":
            tx.execute("LOCK TABLE gate")
        tx.execute("INSERT INTO effect VALUES ($1, $2, $3)", ctx.run_id, stop, ctx.attempt)
        if first and stop == "written":
            tx.execute("LOCK TABLE gate")
        tx.result = {"attempt": ctx.attempt}
    if stop == "committed":
        trace("committed", ctx.job)
        time.sleep(1000)
    return "not what is kept"


def steering(how: str, attempt: int) -> None:
    match how:
        case "cancel":
            raise Cancel("nobody needs it")
        case "give up":
            raise GiveUp("it will never work")
        case "later" if attempt <= 2:
            raise RetryLater(0.01, "busy")
        case "fail":
            raise ValueError("as it happens")


async def steers(ctx: JobContext) -> None:
    steering(ctx.params["how"], ctx.attempt)


def steers_plainly(ctx: SyncJobContext) -> None:
    steering(ctx.params["how"], ctx.attempt)


async def walks_a_pipeline(ctx: JobContext) -> None:
    pipeline = ctx.pipeline({"load": 1, "condense": 8, "store": 1})
    async with pipeline.step("load"):
        pass
    async with pipeline.step("condense") as step:
        await step.progress(0.5)
        while not Path("go").exists():
            await asyncio.sleep(PAUSE_S)


async def shows_signs_of_life(ctx: JobContext) -> None:
    while not Path("go").exists():
        await ctx.heartbeat()
        await asyncio.sleep(PAUSE_S)
