"""Async handlers in the daemon's event loop. Whatever one raises, nothing of it leaves this file but an outcome."""

import asyncio
from contextlib import suppress
from typing import Any

from jobsd.domain.outcome import Cancelled, Completed, Deferred, Failed, Outcome
from jobsd.engine.executors.containment import contain_tasks, in_job
from jobsd.engine.executors.context import Context
from jobsd.engine.executors.execution import Execution
from jobsd.engine.executors.steering import ended_by
from jobsd.engine.executors.threads import Threads
from jobsd.engine.executors.words import UnfitResult, as_json
from jobsd.handlers import Handler
from jobsd.sdk import JobContext

OWN_FRAMES = 1  # of a traceback that begins in `call`


async def run(execution: Execution) -> Outcome:
    """Call the handler in a task of its own. Cancelled, it cancels that, and is cancelled once that has truly ended."""
    if execution.handler is None:
        return no_handler(execution)
    context: JobContext = Context(
        **execution.who(),
        clock=execution.clock,
        report=execution.report,
        open_connection=execution.connect,
        open_transaction=execution.transaction,
    )
    threads = Threads()
    work = asyncio.create_task(call(execution.handler, context, threads), name=execution.label)
    over = asyncio.create_task(_over(work, threads), name=execution.label)
    try:
        await asyncio.wait({over})
    except asyncio.CancelledError:
        while not over.done():
            work.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({over})
        raise
    return Failed("CancelledError", "CancelledError: it cancelled itself") if work.cancelled() else work.result()


async def _over(work: "asyncio.Task[Outcome]", threads: Threads) -> None:
    """Its end is that of its task and of every thread."""
    await asyncio.wait({work})
    await threads.over()


def rehearse(execution: Execution) -> dict[str, Any]:
    return {"would_call": execution.definition.handler, "params": dict(execution.params)}


def no_handler(execution: Execution) -> Failed:
    return Failed("start", f'there is no handler "{execution.definition.handler}" on this node')


async def call(handler: Handler, context: Any, threads: Threads | None = None) -> Outcome:
    """Await an async handler; every exception becomes an outcome, also those that end a process."""
    contain_tasks(asyncio.get_running_loop())
    in_job.set(True)
    if threads is not None:
        threads.watch()
    try:
        result = await handler.call(*arguments(handler, context))
    except BaseException as error:  # the process survives every job
        return failed(error)
    return completed(result)


def arguments(handler: Handler, context: Any) -> tuple[Any, ...]:
    """What the handler is called with. Raises `ValidationError`."""
    return (context,) if handler.model is None else (context, handler.model.model_validate(dict(context.params)))


def failed(error: BaseException) -> Failed | Cancelled | Deferred:
    return ended_by(error, OWN_FRAMES)


def completed(result: object) -> Outcome:
    try:
        return Completed(as_json(result))
    except UnfitResult as unfit:
        return Failed("result", str(unfit))
