"""Jobs whose steps are told from one another: each step is a line, appended in one call, that begins with its fence.

A first attempt goes on for ever, a later one takes one step. Steps are so far apart that one more of them is counted.
"""

import asyncio
import os
import resource
import time
from pathlib import Path

from jobsd.sdk import JobContext, SyncJobContext

PAUSE_S = 1.0


def step(file: str, fence: int) -> None:
    log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{fence} {os.getpid()}\n".encode())
    finally:
        os.close(log)


async def steps(ctx: JobContext) -> None:
    step(ctx.params["file"], ctx.fence)
    while ctx.attempt == 1:
        await asyncio.sleep(PAUSE_S)
        step(ctx.params["file"], ctx.fence)


def steps_plainly(ctx: SyncJobContext) -> None:
    step(ctx.params["file"], ctx.fence)
    while ctx.attempt == 1:
        time.sleep(PAUSE_S)
        step(ctx.params["file"], ctx.fence)


def does_nothing(ctx: SyncJobContext) -> None:
    """In a process of its own."""


async def fails_at_length(ctx: JobContext) -> None:
    raise ValueError("x" * 60_000)


async def marks(ctx: JobContext) -> None:
    _mark(ctx.params["file"], "begin", ctx.fence)
    await asyncio.sleep(0.05)
    _mark(ctx.params["file"], "end", ctx.fence)


def marks_plainly(ctx: SyncJobContext) -> None:
    _mark(ctx.params["file"], "begin", ctx.fence)
    time.sleep(0.05)
    _mark(ctx.params["file"], "end", ctx.fence)


def _mark(file: str, word: str, fence: int) -> None:
    log = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{word} {fence}\n".encode())
    finally:
        os.close(log)


async def blocks(ctx: JobContext) -> None:
    """What no job in the loop may do, for as long as its parameters say."""
    time.sleep(ctx.params["for_s"])


async def spins(ctx: JobContext) -> None:
    """The same, and no other thread gets more than its share of the interpreter."""
    until_s = time.monotonic() + ctx.params["for_s"]
    while time.monotonic() < until_s:
        pass


def eats(ctx: SyncJobContext) -> None:
    """More memory than its limit allows."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    bytearray(2 << 30)


async def steps_in_a_thread(ctx: JobContext) -> None:
    """Its cancellation ends the wait for the thread, not the thread: that takes steps until there is a file `go`."""

    def work() -> None:
        step(ctx.params["file"], ctx.fence)
        while not Path("go").exists():
            time.sleep(0.02)
        step(ctx.params["file"], ctx.fence)

    await asyncio.to_thread(work)
