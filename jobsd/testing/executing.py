"""One execution to its end, as the daemon's workers see to it: within its timeout, which real time measures."""

import asyncio

from jobsd.domain.outcome import Outcome, TimedOut
from jobsd.engine.executors.base import Execution, execute

REAP_S = 3.0  # after the grace of work that has timed out


async def executed(execution: Execution) -> Outcome:
    """Its outcome. What ignores its end is left behind."""
    limit_s = execution.definition.timeout.total_seconds()
    task = asyncio.create_task(execute(execution), name=execution.label)
    await asyncio.wait({task}, timeout=limit_s)
    if task.done():
        return task.result()
    task.cancel()
    await asyncio.wait({task}, timeout=execution.definition.grace.total_seconds() + REAP_S)
    error = f"did not end within its timeout of {limit_s:g} s"
    return TimedOut(limit_s, error, not task.done(), execution.usage)
