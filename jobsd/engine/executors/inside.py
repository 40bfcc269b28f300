"""Inside a handler's own process: calls it and answers with how it ended."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any

from jobsd.domain.outcome import Completed, Failed, Outcome
from jobsd.engine.executors.answers import Answers, AsyncAnswers
from jobsd.engine.executors.context import Context, PlainContext
from jobsd.engine.executors.plain import PlainTransaction
from jobsd.engine.executors.python import arguments, call, completed, failed
from jobsd.handlers import Handler, HandlerError, named
from jobsd.sdk import Connection, SyncJobContext, Transaction


def run(request: dict[str, Any], fd: int) -> int:
    """Do what was asked for; the process's exit code."""
    answers = Answers(fd)
    try:
        outcome = _work(request, answers)
    except BaseException as error:  # an import, or the handler: the daemon is to hear of it word for word
        outcome = failed(error)
    answers.end(outcome)
    return 0 if isinstance(outcome, Completed) else 1


def _work(request: dict[str, Any], answers: Answers) -> Outcome:
    who = request["who"]
    who["slot_at"] = datetime.fromisoformat(who["slot_at"]) if who["slot_at"] else None
    try:
        handler = named(request["handler"])
    except HandlerError as error:
        return Failed("start", str(error))
    open_transaction = partial(_transaction, request, answers)
    if handler.is_async:
        connect = partial(_connect, request)
        context = Context(
            **who, report=AsyncAnswers(answers), open_connection=connect, open_transaction=open_transaction
        )
        return asyncio.run(_call(handler, context))
    signal.signal(signal.SIGTERM, _leave)
    plain: SyncJobContext = PlainContext(
        **who, report=answers, open_transaction=lambda: PlainTransaction(open_transaction)
    )
    return completed(handler.call(*arguments(handler, plain)))


def _leave(number: int, frame: object) -> None:
    """On TERM a plain function is left by an exception, so that its `finally` blocks run within the grace."""
    raise SystemExit(f"ended by {signal.Signals(number).name}")


async def _call(handler: Handler, context: Context) -> Outcome:
    task = asyncio.current_task()
    if task is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await call(handler, context)


@asynccontextmanager
async def _connect(request: dict[str, Any]) -> AsyncIterator[Connection]:
    from jobsd.store import db  # noqa: PLC0415  # its driver takes long to import, and few jobs here need it

    who = request["who"]
    if (url := request["database_url"]) is None:
        raise RuntimeError("this daemon gives its jobs no database")
    name = f"jobsd job {who['job']}"
    async with db.dedicated(url, application_name=name, fence=who["fence"], run_id=who["run_id"]) as connection:
        yield connection


@asynccontextmanager
async def _transaction(request: dict[str, Any], answers: Answers) -> AsyncIterator[Transaction]:
    from jobsd.engine.executors.transaction import transaction  # noqa: PLC0415  # as above

    who, connect = request["who"], partial(_connect, request)
    run, fence, dry_run = who["run_id"], who["fence"], who["dry_run"]
    async with transaction(connect, request["schema"], run, fence, answers, dry_run=dry_run) as tx:
        yield tx
