"""Jobs as their authors may write them, the bad ones included."""

import asyncio
import contextlib
import ctypes
import dataclasses
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from jobsd.sdk import Cancel, GiveUp, JobContext, RetryLater, SyncJobContext, Transaction, dry_run_aware


class Params(BaseModel):
    region: str = "eu"
    count: int = 1


@dataclasses.dataclass
class Figures:
    rows: int
    params: Params


def own_words(ctx: JobContext | SyncJobContext) -> dict[str, Any]:
    return {
        "job": ctx.job,
        "run": ctx.run_id,
        "attempt": ctx.attempt,
        "fence": ctx.fence,
        "slot": ctx.slot_at.isoformat() if ctx.slot_at else None,
        "dry_run": ctx.dry_run,
        "params": dict(ctx.params),
        "key": ctx.idempotency_key,
        "pid": os.getpid(),
    }


async def reports(ctx: JobContext, params: Params) -> Any:
    await ctx.progress(0.25, "a quarter")
    await ctx.info("so far so good")
    await ctx.warning("hm")
    await ctx.error("oh\0 \ud800")
    await ctx.progress(1.5, "done")
    return {**own_words(ctx), "rows": Figures(params.count, params)}


def reports_plainly(ctx: SyncJobContext, params: Params) -> Any:
    ctx.progress(0.25, "a quarter")
    ctx.info("so far so good")
    ctx.warning("hm")
    ctx.error("oh\0 \ud800")
    ctx.progress(1.5, "done")
    return {**own_words(ctx), "rows": Figures(params.count, params)}


class Silly(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Endless(Exception):
    def __str__(self) -> str:
        return str(self)


RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError('wörd\nfor "word"'),
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("c"),
    "GeneratorExit": lambda: GeneratorExit("g"),
    "CancelledError": lambda: asyncio.CancelledError("not asked for"),
    "BaseException": lambda: BaseException("base"),
    "StopIteration": lambda: StopIteration(1),
    "TimeoutError": lambda: TimeoutError("mine"),
    "MemoryError": lambda: MemoryError("none"),
    "Silly": Silly,
    "Endless": Endless,
    "ExceptionGroup": lambda: ExceptionGroup("two", [ValueError("a"), KeyError("b")]),
}


async def raises(ctx: JobContext) -> None:
    raise RAISED[ctx.params["what"]]()


def raises_plainly(ctx: SyncJobContext) -> None:
    raise RAISED[ctx.params["what"]]()


async def recurses(ctx: JobContext) -> None:
    await recurses(ctx)


async def raises_huge(ctx: JobContext) -> None:
    raise RuntimeError("begin" + "x" * 10_000_000 + "\0end")


def circle() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def deep() -> list[Any]:
    nest: list[Any] = []
    for _ in range(100_000):
        nest = [nest]
    return nest


class Hostile(BaseModel):
    def model_dump(self, **_: Any) -> Any:
        raise SystemExit("from a serializer")


RETURNED: dict[str, Callable[[], Any]] = {
    "nan": lambda: {"x": math.nan},
    "infinity": lambda: [math.inf],
    "nul": lambda: {"a\0b": 1},
    "surrogate": lambda: "\ud800",
    "huge": lambda: "x" * (1024 * 1024),
    "many": lambda: list(range(10_000_000)),
    "circle": circle,
    "deep": deep,
    "object": object,
    "bytes": lambda: b"x",
    "integer": lambda: 1 << 70,
    "hostile": Hostile,
    "function": lambda: circle,
}


async def returns(ctx: JobContext) -> Any:
    return RETURNED[ctx.params["what"]]()


def returns_plainly(ctx: SyncJobContext) -> Any:
    return RETURNED[ctx.params["what"]]()


async def leaves_a_task_that_exits(ctx: JobContext) -> str:
    async def exits() -> None:
        sys.exit(5)

    async def interrupted() -> None:
        await asyncio.sleep(0)
        raise KeyboardInterrupt

    tasks = [asyncio.create_task(exits()), asyncio.create_task(interrupted())]
    said = await asyncio.gather(*tasks, return_exceptions=True)
    return ", ".join(f"{type(each).__name__}: {each}".rstrip(": ") for each in said)


async def cancels_itself(ctx: JobContext) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1000)


async def ignores_cancellation(ctx: JobContext) -> str:
    release = asyncio.Event()
    waits_for[ctx.params["name"]] = release
    await ctx.info("begun")
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            await ctx.info("ignored")
    return "done after all"


waits_for: dict[str, asyncio.Event] = {}


async def obeys_cancellation(ctx: JobContext) -> None:
    try:
        await ctx.info("begun")
        await asyncio.Event().wait()
    finally:
        await ctx.info("cleaned up")


def blocks(ctx: SyncJobContext) -> None:
    """In native code that no signal interrupts: only a kill ends it."""
    subprocess.Popen(["setsid", "sh", "-c", f"echo $$ >> {ctx.params['pids']}; exec sleep 1000"])
    with Path(ctx.params["pids"]).open("a") as file:
        file.write(f"{os.getpid()}\n")
    ctx.info("begun")
    pause = ctypes.PyDLL(None).pause  # holds the interpreter's lock
    while True:
        pause()


def waits_with_a_finally(ctx: SyncJobContext) -> None:
    try:
        ctx.info("begun")
        threading.Event().wait()
    finally:
        print("cleaned up")


def crashes(ctx: SyncJobContext) -> None:
    print("on the edge")
    ctypes.string_at(1)


def leaves(ctx: SyncJobContext) -> None:
    print("leaving")
    os._exit(ctx.params["code"])


def shows_its_surroundings(ctx: SyncJobContext) -> dict[str, Any]:
    print("to stdout")
    print("to stderr", file=sys.stderr)
    os.write(1, b"\0\xff\n")
    return {
        "env": dict(os.environ),
        "argv": sys.argv,
        "path": sys.path,
        "cmdline": Path("/proc/self/cmdline").read_text().split("\0"),
    }


def floods_with_progress(ctx: SyncJobContext) -> int:
    """A tight loop for as long as the limit lets it; then one last word."""
    count, until = 0, time.monotonic() + 0.7
    while time.monotonic() < until:
        count += 1
        ctx.progress(count % 1000 / 1000, "step")
    ctx.progress(1.0, "last")
    return count


def garbles_its_pipe(ctx: SyncJobContext) -> str:
    fd = int(sys.argv[2])
    os.write(fd, b'not json\n{"strange": 1}\n{"completed": "forged"}\n')
    return "said"


async def asks_its_database(ctx: JobContext) -> list[Any]:
    async with ctx.connect() as connection:
        return list(
            await connection.fetchrow("SELECT current_setting('jobsd.fence'), current_setting('application_name')")
        )


@dry_run_aware
async def says_what_it_would(ctx: JobContext, params: Params) -> dict[str, Any]:
    return {"would_delete": params.count, "dry_run": ctx.dry_run}


STEERING: dict[str, Callable[[], BaseException]] = {
    "cancel": lambda: Cancel("the course is gone"),
    "give up": lambda: GiveUp("the source is malformed"),
    "later": lambda: RetryLater(timedelta(minutes=2), "the provider is busy"),
    "later in seconds": lambda: RetryLater(1.5),
    "in a group": lambda: ExceptionGroup("two", [RetryLater(5, "b"), ExceptionGroup("one", [RetryLater(9, "c")])]),
    "beside a cancellation": lambda: ExceptionGroup("two", [RetryLater(5), Cancel("gone")]),
    "beside a failure": lambda: ExceptionGroup("two", [RetryLater(5), ValueError("real")]),
    "given up beside a failure": lambda: ExceptionGroup("two", [ValueError("real"), GiveUp("useless")]),
    "silly": lambda: SillyCancel("never said"),
}


class SillyCancel(Cancel):
    def __str__(self) -> str:
        raise KeyboardInterrupt


async def steers(ctx: JobContext) -> None:
    raise STEERING[ctx.params["how"]]()


def steers_plainly(ctx: SyncJobContext) -> None:
    raise STEERING[ctx.params["how"]]()


async def steers_from_a_cause(ctx: JobContext) -> None:
    try:
        raise RetryLater(7, "the provider is busy")
    except RetryLater as busy:
        raise RuntimeError("step load failed") from busy


async def gives_up_from_a_cause(ctx: JobContext) -> None:
    try:
        int("x")
    except ValueError as error:
        raise GiveUp("this row will never fit") from error


async def fails_after_a_cancellation(ctx: JobContext) -> None:
    """Not `from` it: what was being handled is no cause."""
    try:
        raise Cancel("gone")
    except Cancel:
        raise ValueError("while tidying up")  # noqa: B904


async def steers_in_a_task(ctx: JobContext) -> None:
    async def busy() -> None:
        raise RetryLater(3, "busy")

    async with asyncio.TaskGroup() as group:
        group.create_task(busy())


async def walks_a_pipeline(ctx: JobContext) -> None:
    pipeline = ctx.pipeline({"load": 1, "condense": 8, "store": 1})
    async with pipeline.step("load"):
        pass
    async with pipeline.step("condense") as step:
        await step.progress(0.5, "half of it")
    async with pipeline.step("store") as step:
        await step.progress(0.5)


def walks_a_pipeline_plainly(ctx: SyncJobContext) -> None:
    pipeline = ctx.pipeline({"load": 1, "condense": 8, "store": 1})
    with pipeline.step("load"):
        pass
    with pipeline.step("condense") as step:
        step.progress(0.5, "half of it")
    time.sleep(ctx.params.get("pause_s", 0))


async def shows_progress(ctx: JobContext) -> None:
    await ctx.progress(0.5)


async def declares_a_pipeline(ctx: JobContext) -> None:
    ctx.pipeline({"one": 1})


def shows_progress_plainly(ctx: SyncJobContext) -> None:
    ctx.progress(0.5)


async def lives(ctx: JobContext) -> None:
    await ctx.heartbeat()


def lives_plainly(ctx: SyncJobContext) -> None:
    for _ in range(1000):
        ctx.heartbeat()


async def writes(ctx: JobContext) -> str:
    """One row and a result in its transaction, and as `params.then` says."""
    async with ctx.transaction() as tx:
        await tx.execute("INSERT INTO effect (run) VALUES ($1)", ctx.run_id)
        tx.result = {"rows": await tx.fetchval("SELECT count(*) FROM effect")}
        match ctx.params.get("then"):
            case "raise":
                raise ValueError("not so")
            case "cancel":
                raise Cancel("not needed")
            case "commit":
                await tx.execute("COMMIT")
            case "garbage":
                tx.result = object()
            case "savepoint":
                await undone_inside(ctx, tx)
            case "wait":
                await ctx.info("written")
                await asyncio.Event().wait()
    if ctx.params.get("then") == "fail after":
        raise ValueError("too late")
    return "said after the commit"


async def undone_inside(ctx: JobContext, tx: Transaction) -> None:
    with contextlib.suppress(ZeroDivisionError):
        async with tx.transaction():
            await tx.execute("INSERT INTO effect (run) VALUES ($1)", ctx.run_id)
            raise ZeroDivisionError


def writes_plainly(ctx: SyncJobContext) -> str:
    with ctx.transaction() as tx:
        tx.executemany("INSERT INTO effect (run) VALUES ($1)", [(ctx.run_id,)])
        tx.result = {"rows": tx.fetchval("SELECT count(*) FROM effect"), "all": len(tx.fetch("TABLE effect"))}
        assert tx.fetchrow("SELECT 1 AS one")["one"] == tx.result["rows"] == tx.result["all"]
        if ctx.params.get("then") == "raise":
            raise ValueError("not so")
    return "said after the commit"


@dry_run_aware
async def writes_or_says_so(ctx: JobContext) -> None:
    async with ctx.transaction() as tx:
        tx.result = {"said": await tx.execute("INSERT INTO effect (run) VALUES ($1)", ctx.run_id)}


@dry_run_aware
def writes_or_says_so_plainly(ctx: SyncJobContext) -> None:
    with ctx.transaction() as tx:
        tx.result = {"said": tx.execute("INSERT INTO effect (run) VALUES ($1)", ctx.run_id)}


def forges_progress(ctx: SyncJobContext) -> None:
    os.write(int(sys.argv[2]), b'{"progress": [0.5, "forged", null, null]}\n')


def claims_to_have_committed(ctx: SyncJobContext) -> None:
    fd = int(sys.argv[2])
    os.write(fd, b'{"effect": "committing"}\n{"effect": {"committed": "2026-03-01T00:00:00+00:00", "result": 1}}\n')
    raise ValueError("in truth")
