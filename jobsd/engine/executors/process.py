"""Handlers in a process of their own: plain functions, and async ones that ask for it. It can be killed.

The child is `child`, under a guardian like any command. The request goes over a descriptor in memory, so neither its
arguments nor its environment hold the parameters or the database's address; what it says comes over a pipe, one JSON
object a line, and is taken in only as fast as it can be reported.
"""

import asyncio
import os
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from jobsd.domain.outcome import Cancelled, Completed, Deferred, Failed, Outcome
from jobsd.engine.executors.command import failure, lost
from jobsd.engine.executors.environment import environment
from jobsd.engine.executors.execution import Execution
from jobsd.engine.executors.guardians import End, Ended, Guarded, Work, in_memory
from jobsd.engine.executors.pipeline import Progress, share
from jobsd.engine.executors.python import completed, no_handler
from jobsd.engine.executors.words import RESULT_BYTES, clean
from jobsd.sdk.control import LONGEST_DELAY

CHILD = Path(__file__).with_name("child.py")
LONGEST_LINE = 2 * RESULT_BYTES
LAST_WORDS_S = 1.0  # its end is seen before its pipe is read to the end
NOT_UNDERSTOOD = Failed("result", "its process sent an answer that is not understood")


async def run(execution: Execution) -> Outcome:
    """Its answer decides. Cancelled: TERM (which cancels an async handler), grace, KILL."""
    if execution.handler is None:
        return no_handler(execution)
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb", 0) as answers:
        try:
            guarded = _launch(execution, writer)
        except (OSError, ValueError) as refused:
            return Failed("start", f"cannot start: {refused}")
        finally:
            os.close(writer)
        listening = asyncio.create_task(_listen(answers, execution), name=execution.label)
        try:
            end = await execution.attend(guarded)
            answer = await listening
        except asyncio.CancelledError:
            await asyncio.wait({listening}, timeout=LAST_WORDS_S)  # it may have told of its COMMIT
            raise
        finally:
            listening.cancel()
    return lost(end) or replace(_outcome(end, answer, guarded), usage=guarded.usage)


def _launch(execution: Execution, answers: int) -> Guarded:
    request = in_memory(orjson.dumps(_request(execution)))
    env = environment(execution)
    del env["JOBSD_PARAMS"]  # they come with the context, and a variable has a limit
    try:
        return execution.guardians.launch(
            Work(
                label=execution.label,
                argv=(sys.executable, "-P", str(CHILD), str(request), str(answers), execution.run.job),
                env=env,
                cwd=execution.definition.cwd,
                grace_s=execution.definition.grace.total_seconds(),
                output=execution.definition.output,
                keep=(request, answers),
            )
        )
    finally:
        os.close(request)


def _request(execution: Execution) -> dict[str, Any]:
    return {
        "path": [str(entry) for entry in sys.path],
        "handler": execution.definition.handler,
        "who": execution.who(),
        "database_url": execution.database_url,
        "schema": execution.schema,
    }


async def _listen(pipe: BinaryIO, execution: Execution) -> Outcome | None:
    """Pass on what the child reports until its pipe ends; its answer, if it gave one."""
    stream = asyncio.StreamReader(LONGEST_LINE)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    answer: Outcome | None = None
    refused: Failed | None = None
    try:
        while True:
            try:
                line = await stream.readline()
                if not line:
                    return refused or answer
                answer = await _take(orjson.loads(line), execution) or answer
            except ValueError:  # too long, or not JSON: job code has got hold of the pipe
                answer = NOT_UNDERSTOOD
            except Exception as error:  # a report was refused: the job would have failed by it
                refused = Failed(type(error).__name__, clean(f"{type(error).__name__}: {error}"))
    finally:
        transport.close()


async def _take(line: Any, execution: Execution) -> Outcome | None:
    match line:
        case {"progress": [int() | float() as fraction, str(note), str() | None as step, list() | None as steps]}:
            if execution.progress_refused is None:  # else its own context has refused it: this is not from there
                await execution.report.progress(Progress(share(fraction), note, step, _pairs(steps)))
        case {"heartbeat": True}:
            await execution.report.heartbeat()
        case {"message": ["info" | "warning" | "error" as level, str(text)]}:
            await execution.report.message(level, text)
        case {"effect": what}:
            _note_effect(what, execution)
        case _:
            return _answer(line)
    return None


def _pairs(steps: list[Any] | None) -> tuple[tuple[str, float], ...] | None:
    """A pipeline's steps and their weights. Raises `ValueError` for anything else."""
    if steps is None:
        return None
    match steps:
        case [*pairs] if all(isinstance(name, str) and isinstance(weight, float) for name, weight in pairs):
            return tuple((name, weight) for name, weight in pairs)
    raise ValueError("expected names and weights")


def _note_effect(what: Any, execution: Execution) -> None:
    """How far the child's own transaction is. That it is committed is for the database to say, not for job code."""
    match what:
        case "committing":
            execution.effects.committing()
        case "undone":
            execution.effects.undone()
        case {"rehearsed": result}:
            execution.effects.rehearsed(result)


def _answer(line: Any) -> Outcome:
    match line:
        case {"completed": result}:
            return completed(result)
        case {"failed": [str(kind), str(error), bool(final)]}:
            return Failed(clean(kind), clean(error), final=final)
        case {"cancelled": str(reason)}:
            return Cancelled(clean(reason))
        case {"deferred": [int() | float() as delay_s, str(reason)]} if 0 <= delay_s <= LONGEST_DELAY.total_seconds():
            return Deferred(timedelta(seconds=delay_s), clean(reason))
    return NOT_UNDERSTOOD


def _outcome(end: End, answer: Outcome | None, guarded: Guarded) -> Completed | Failed | Cancelled | Deferred:
    if not isinstance(end, Ended) or end.reason != "exit":
        return failure(end, guarded)
    if isinstance(answer, Completed | Failed | Cancelled | Deferred):
        return answer
    died = failure(end, guarded)
    first, _, rest = died.error.partition("\n")
    return replace(died, error=f"its process {first} before the handler returned\n{rest}".rstrip())
