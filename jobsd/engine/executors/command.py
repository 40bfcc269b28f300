"""A command: no shell, its arguments as declared, under a guardian that ends all of its tree."""

import os
import signal
from dataclasses import replace

from jobsd.domain.outcome import Completed, Failed, Lost, Outcome
from jobsd.engine.executors.environment import environment, too_long
from jobsd.engine.executors.execution import Execution
from jobsd.engine.executors.guardians import End, Ended, Guarded, GuardianDied, NotStarted, Work

LEASE_OVER = "its lease was over, so it was ended: the daemon could not prolong it"
ENDED_BY_GUARDIAN = {
    "gone": "the daemon let go of it, so it was ended",
    "kill": "it was ended before its time",
}
LINES, LINES_CHARS = 10, 4000  # of the output, in the error


async def run(execution: Execution) -> Outcome:
    """Its exit status decides. Cancelled: TERM, grace, KILL, and back when no process of it is left."""
    definition = execution.definition
    work = Work(
        label=execution.label,
        argv=definition.command or (),
        env=environment(execution),
        cwd=definition.cwd,
        grace_s=definition.grace.total_seconds(),
        output=definition.output,
    )
    if error := too_long(work.env):
        return Failed("start", f"cannot start: {error}")
    try:
        guarded = execution.guardians.launch(work)
    except (OSError, ValueError) as refused:
        return Failed("start", f"cannot start: {refused}")
    return _outcome(await execution.attend(guarded), guarded)


def rehearse(execution: Execution) -> dict[str, object]:
    definition = execution.definition
    return {"would_run": list(definition.command or ()), "cwd": definition.cwd, "params": dict(execution.params)}


def _outcome(end: End, guarded: Guarded) -> Outcome:
    if isinstance(end, Ended) and end.reason == "exit" and end.status == 0:
        return Completed({"exit_code": 0}, guarded.usage)
    return lost(end) or replace(failure(end, guarded), usage=guarded.usage)


def lost(end: End) -> Lost | None:
    """Not its own fault: the node could not prove any more that it may run it."""
    match end:
        case NotStarted(why=why) if why:
            return Lost(f"not started: {why}", {"proof": why})
        case Ended("lease", _):
            return Lost(LEASE_OVER, {"proof": "its guardian saw the lease's end"})
    return None


def failure(end: End, guarded: Guarded) -> Failed:
    """What to say of a process that did not do what it was for, and is not `lost`."""
    match end:
        case NotStarted(errno):
            return Failed("start", _cannot_start(errno, guarded.work))
        case GuardianDied(status):
            first = f"its guardian process {_ended_with(status)}; its work was ended with it"
            return Failed("guardian", _with_output(first, guarded))
        case Ended("exit", status):
            return Failed("signal" if status < 0 else "exit", _with_output(_ended_with(status), guarded))
        case Ended(reason):
            return Failed("interrupted", ENDED_BY_GUARDIAN[reason])


def _ended_with(status: int) -> str:
    if status >= 0:
        return f"exited with {status}"
    whom = ", not by jobsd: by a person, or by the kernel for want of memory" if -status == signal.SIGKILL else ""
    return f"was killed by {_signal_name(-status)}{whom}"


def _cannot_start(number: int, work: Work) -> str:
    program = work.argv[0]
    where = f" in {work.cwd}" if work.cwd else ""
    if work.cwd and not os.path.isdir(work.cwd):  # noqa: PTH112  # said with the words of the definition
        return f'cannot start: the folder "{work.cwd}" does not exist'
    match number:
        case 2 if "/" in program:
            return f'cannot start: "{program}" was not found{where}, nor perhaps the interpreter that it names'
        case 2:
            return f'cannot start: "{program}" was not found in PATH ({work.env.get("PATH", "not set")})'
        case 13:
            return f'cannot start: permission denied for "{program}"{where}: it is not executable by this user'
        case 8:
            return f'cannot start: "{program}" is not a program: a script needs a first line such as #!/bin/sh'
    return f'cannot start "{program}"{where}: {os.strerror(number)}'


def _with_output(first: str, guarded: Guarded) -> str:
    lines = guarded.tail.last_lines(LINES, LINES_CHARS)
    return f"{first}\n{lines}" if lines else first


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
