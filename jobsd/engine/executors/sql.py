"""A job's SQL, in one transaction with its run's completion (P9); `store.statements` speaks with the server."""

from pathlib import Path
from time import monotonic
from typing import Any

from jobsd.domain.outcome import Committed, Completed, Failed, Outcome
from jobsd.engine.executors.execution import Execution
from jobsd.engine.executors.transaction import commit
from jobsd.engine.executors.words import clean
from jobsd.sdk import FenceLost
from jobsd.store import statements
from jobsd.store.db import Unavailable
from jobsd.store.effects import Effect
from jobsd.store.statements import Answer, RefusedStatement

FILE = "file:"
MARGIN_S = 1.0  # the run's own limit comes first; the server's is there in case we are gone
TEXT_CHARS = 2000


async def run(execution: Execution) -> Outcome:
    """Cancelled: the statement is cancelled on the server; one that goes on loses its session."""
    deadline = monotonic() + execution.definition.timeout.total_seconds() + MARGIN_S
    try:
        text = text_of(execution)
        async with execution.connect() as con:
            await statements.prepare_session(con, execution.params, deadline - monotonic())
            return Completed(_result(await _run(execution, con, text)))
    except OSError as unread:
        return Failed("start", f"cannot read its statements: {unread}")
    except (RefusedStatement, FenceLost) as refused:
        return Failed("sql", clean(str(refused)))
    except Unavailable as lost:
        return Failed("sql", f"the database went away: {lost}; what it did not commit is undone")


async def rehearse(execution: Execution) -> dict[str, Any] | Failed:
    """What would run. A single statement is parsed by the server, so names and types are checked too."""
    try:
        text = text_of(execution)
        async with execution.connect() as con:
            checked = await statements.check(con, text)
    except OSError as unread:
        return Failed("start", f"cannot read its statements: {unread}")
    except RefusedStatement as refused:
        return Failed("sql", clean(str(refused)))
    except Unavailable as lost:
        return Failed("sql", f"the database went away: {lost}")
    return {"would_run": text[:TEXT_CHARS], "checked": checked, "params": dict(execution.params)}


def text_of(execution: Execution) -> str:
    """The statements. Raises `OSError` when their file cannot be read."""
    text = execution.definition.sql or ""
    return Path(text.removeprefix(FILE)).read_text() if text.startswith(FILE) else text


async def _run(execution: Execution, con: Any, text: str) -> Answer:
    pid = con.get_server_pid()
    effect = Effect(con, execution.schema, execution.run.id, execution.run.fence)

    async def finish(answer: Answer) -> None:
        result = _result(answer)
        await commit(effect, Committed(await effect.complete(result), result), execution.effects)

    try:
        return await statements.run(con, text, execution.definition.grace.total_seconds(), effect, finish)
    finally:
        if con.is_closed():  # it did not obey in time: its lock must not be let go while it works
            await _end(execution, pid)


async def _end(execution: Execution, pid: int) -> None:
    try:
        async with execution.connect() as other:
            await statements.end_backend(other, pid)
    except Unavailable:  # then the lock session is lost as well, and the server looks for us itself
        return


def _result(answer: Answer) -> dict[str, Any]:
    if answer.rows is None:
        return {"status": answer.status}
    return {"rows": answer.rows, "first": list(answer.first)}
