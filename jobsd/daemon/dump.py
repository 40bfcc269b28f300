"""What SIGUSR1 writes to the log: tasks with where they stand, what runs, locks, loops, next slots."""

import asyncio
from pathlib import Path
from typing import Any

from jobsd.daemon.node import Node

MOST_TASKS = 200
MOST_SLOTS = 20
ASYNCIO = str(Path(asyncio.__file__).parent)
FRAMES = ("cr_frame", "gi_frame", "ag_frame")  # of coroutines, generators, async generators
AWAITED = ("cr_await", "gi_yieldfrom", "ag_await")


def dump(node: Node) -> dict[str, Any]:
    """The node's state, for a person who reads the log."""
    keeper, now_known = node.here.keeper, node.here.keeper.node != 0
    upcoming = sorted(
        (at, name) for name, entry in node.scheduler.entries.items() if (at := entry.next_at()) is not None
    )
    return {
        "node": node.parts.who.name,
        "lock_session": "up" if keeper.up else "down",
        "database_clock": keeper.now().isoformat() if now_known else None,
        "running": [
            {"run": run.id, "job": run.job, "fence": run.fence, "age_s": round(age, 1)}
            for run, age in node.workers.running
        ],
        "locks": {
            str(run): [f"{'own ' if key.own else ''}{key.id}" for key in keys]
            for run, keys in node.workers.held().items()
            if run > 0  # a canary's is nobody's
        },
        "unwritten_settlements": node.settler.unwritten,
        "loops": {loop: round(beat.age_s, 1) for loop, beat in node.here.pulse.beats().items()},
        "next_slots": [{"job": name, "at": at.isoformat()} for at, name in upcoming[:MOST_SLOTS]],
        "tasks": [_where(task) for task in list(asyncio.all_tasks())[:MOST_TASKS]],
    }


def _where(task: "asyncio.Task[Any]") -> str:
    """The innermost frame that it waits in, asyncio's own left out."""
    at = "-"
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = next((found for name in FRAMES if (found := getattr(awaited, name, None)) is not None), None)
        if frame is not None and not frame.f_code.co_filename.startswith(ASYNCIO):
            at = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        awaited = next((found for name in AWAITED if (found := getattr(awaited, name, None)) is not None), None)
    return f"{task.get_name()} at {at}"
