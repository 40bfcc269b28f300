"""The one door to the executors: every kind of job becomes an outcome here, or is cancelled."""

import asyncio
from typing import Any, assert_never

from jobsd.domain.outcome import Completed, Failed, Outcome
from jobsd.engine.executors import command, http, process, python, sql
from jobsd.engine.executors.execution import Execution, Report
from jobsd.engine.executors.words import as_json, failure

__all__ = ["Execution", "Report", "execute"]


async def execute(execution: Execution) -> Outcome:
    """Run one attempt to its end.

    Cancelled, it ends the work first and raises `CancelledError` only when the work has truly ended; `execution.usage`
    then holds what is known. Raises nothing else: whatever job code does becomes `Failed`.
    """
    try:
        return execution.effects.shown(await (_rehearse(execution) if _is_rehearsed(execution) else _run(execution)))
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        return failure(error)  # nobody cancelled us: something below only says so
    except Exception as error:
        return failure(error)


async def _run(execution: Execution) -> Outcome:
    kind = execution.definition.kind
    match kind:
        case "handler":
            return await (process.run(execution) if _has_own_process(execution) else python.run(execution))
        case "command":
            return await command.run(execution)
        case "sql":
            return await sql.run(execution)
        case "http":
            return await http.run(execution)
        case "external":
            return Failed("start", "an external job's run is started by its own program, over the API", final=True)
        case _:
            assert_never(kind)


def _has_own_process(execution: Execution) -> bool:
    handler = execution.handler
    return execution.definition.isolation == "process" or (handler is not None and not handler.is_async)


def _is_rehearsed(execution: Execution) -> bool:
    """A dry run does no work. Only a handler that says it honours one is called, to tell what it would."""
    honours = execution.handler is not None and getattr(execution.handler.call, "honours_dry_run", False)
    return execution.is_dry and not honours


async def _rehearse(execution: Execution) -> Outcome:
    """Say what would have been done."""
    said: dict[str, Any] | Failed
    kind = execution.definition.kind
    match kind:
        case "handler":
            said = python.rehearse(execution)
        case "command":
            said = command.rehearse(execution)
        case "sql":
            said = await sql.rehearse(execution)
        case "http":
            said = http.rehearse(execution)
        case "external":
            said = {"would_wait_for": "its own program to start it over the API"}
        case _:
            assert_never(kind)
    return said if isinstance(said, Failed) else Completed(as_json({"dry_run": True, **said}))
