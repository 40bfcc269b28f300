"""Jobs for the tests of `jobsd.sdk.testing`: they write to the table `note`."""

import asyncio
import threading
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobsd.sdk import Cancel, GiveUp, JobContext, RetryLater, SyncJobContext, dry_run_aware

NOTES = """
    CREATE TABLE note (
        text text PRIMARY KEY,
        about text,
        CONSTRAINT a_note_says_something CHECK (text <> '')
    );
    ALTER TABLE note ADD CONSTRAINT about_another FOREIGN KEY (about) REFERENCES note DEFERRABLE INITIALLY DEFERRED;
"""
WRITE = "INSERT INTO note (text) VALUES ($1)"


class Text(BaseModel):
    model_config = ConfigDict(extra="forbid")
    text: str = Field("hello", max_length=20)


async def write(ctx: JobContext, params: Text) -> dict[str, Any]:
    async with ctx.connect() as connection:
        await connection.execute(WRITE, params.text)
        fence = await connection.fetchval("SELECT current_setting('jobsd.fence')")
    return {"text": params.text, "now": ctx.now().isoformat(), "own": fence == str(ctx.fence), "slot": ctx.slot_at}


async def tell(ctx: JobContext) -> None:
    await ctx.info("begun")
    async with ctx.connect() as connection, connection.transaction():
        await connection.execute(WRITE, "half")
        await ctx.warning("halfway")
        await ctx.progress(0.5, "half")
        raise RuntimeError("no further")


async def flaky(ctx: JobContext) -> str:
    if ctx.attempt < 3:
        raise ConnectionError(f"try {ctx.attempt}")
    return ctx.now().isoformat()


async def later(ctx: JobContext) -> int:
    if ctx.attempt == 1:
        raise RetryLater(timedelta(hours=3), "closed")
    return ctx.attempt


async def cancel(ctx: JobContext) -> None:
    raise Cancel("nobody needs it")


async def give_up(ctx: JobContext) -> None:
    raise GiveUp("it will never work")


async def once(ctx: JobContext, params: Text) -> str:
    async with ctx.transaction() as tx:
        await tx.execute(WRITE, params.text)
        await ctx.info("within")
        tx.result = {"wrote": params.text}
        if params.text == "bad":
            raise ValueError("bad")
    return "not this"


async def steps(ctx: JobContext) -> None:
    pipeline = ctx.pipeline({"load": 1, "store": 3})
    async with pipeline.step("load") as step:
        await step.progress(0.5)
    async with pipeline.step("store"):
        await ctx.heartbeat()


async def recover(ctx: JobContext) -> list[str]:
    """Errors of statements and blocks, caught, undo no more than themselves."""
    async with ctx.connect() as connection:
        await connection.execute(WRITE, "one")
        for text in ("", "one"):
            try:
                async with connection.transaction():
                    await connection.execute(WRITE, f"with {text!r}")
                    await connection.execute(WRITE, text)
            except Exception:
                await ctx.info("undone")
        try:
            await connection.execute(WRITE, "")
        except Exception as error:
            await ctx.info(type(error).__name__)
        await connection.execute(WRITE, "two")
        return [row["text"] for row in await connection.fetch("SELECT text FROM note ORDER BY text")]


async def leave_things(ctx: JobContext) -> str:
    """What goes with a connection, and would be in the way of the next one."""
    async with ctx.connect() as connection:
        before = await connection.fetchval("SELECT current_setting('work_mem')")
        await connection.execute("CREATE TEMPORARY TABLE scratch (n int)")
        await connection.execute("SET work_mem = '1234kB'")
        await connection.execute("SELECT pg_advisory_lock(7)")
        return str(before)


async def dangle(ctx: JobContext) -> None:
    """Names a note that is not there: only the COMMIT would tell."""
    async with ctx.connect() as connection, connection.transaction():
        await connection.execute("INSERT INTO note (text, about) VALUES ('child', 'parent')")


async def in_words(ctx: JobContext) -> int:
    async with ctx.connect() as connection:
        await connection.execute("BEGIN")
        await connection.execute(WRITE, "kept")
        await connection.execute("COMMIT")
        await connection.execute("BEGIN")
        await connection.execute(WRITE, "dropped")
        await connection.execute("ROLLBACK")
        await connection.execute("BEGIN")
        await connection.execute(WRITE, "left open")
    async with ctx.connect() as connection:
        return int(await connection.fetchval("SELECT count(*) FROM note"))


async def end_all(ctx: JobContext) -> None:
    async with ctx.connect() as connection:
        await connection.execute("COMMIT; SELECT 1")


async def only_look(ctx: JobContext) -> None:
    async with ctx.connect() as connection, connection.transaction(readonly=True):
        await connection.execute(WRITE, "looked")


async def side_by_side(ctx: JobContext) -> int:
    """Two tasks with connections of their own, whose transactions are open at the same time."""

    async def write_all(name: str, fails: bool) -> None:
        async with ctx.connect() as connection:
            for n in range(3):
                async with connection.transaction():
                    await connection.execute(WRITE, f"{name} {n}")
                    await asyncio.sleep(0)
            if fails:
                async with connection.transaction():
                    await connection.execute(WRITE, f"{name} undone")
                    await asyncio.sleep(0)
                    raise ValueError(name)

    await asyncio.gather(write_all("a", False), write_all("b", True), return_exceptions=True)
    async with ctx.connect() as outer, outer.transaction(), ctx.connect() as inner:
        await inner.execute(WRITE, "nested")
        return int(await outer.fetchval("SELECT count(*) FROM note"))


async def sleep_in_sql(ctx: JobContext) -> None:
    async with ctx.connect() as connection, connection.transaction():
        await connection.execute(WRITE, "asleep")
        await connection.execute("SELECT pg_sleep(60)")


async def hang(ctx: JobContext) -> None:
    await asyncio.Event().wait()


@dry_run_aware
def plain(ctx: SyncJobContext, params: Text) -> dict[str, Any]:
    ctx.info("from a thread")
    ctx.progress(0.25, "a quarter")
    with ctx.transaction() as tx:
        tx.execute(WRITE, params.text)
        tx.result = {"thread": threading.current_thread() is not threading.main_thread(), "dry": ctx.dry_run}
    return {}
