"""Ends what a guardian left behind that was itself killed: the one case in which nobody is above the tree any more.

Its main process dies with it (the kernel sees to that). Others are found by the environment they were born with, or by
its session, and only below no living guardian: another installation on this machine may use the same numbers.
"""

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARKS = ("JOBSD_JOB", "JOBSD_RUN_ID", "JOBSD_FENCE")
ROUND_S = 0.02  # between two looks: the kernel needs a moment, and one that forks may have slipped by


@dataclass(frozen=True, slots=True)
class Process:
    parent: int
    session: int
    zombie: bool


async def end_strays(session: int | None, env: Mapping[str, str]) -> int:
    """KILL them, and wait until none is left; how many there were."""
    marks = [f"{name}={env[name]}".encode() for name in MARKS if name in env]
    ended: set[int] = set()
    while found := await asyncio.to_thread(_strays, session, marks):
        for pid in found:
            with suppress(OSError):  # gone already, or another user's: then it is waited for
                os.kill(pid, signal.SIGKILL)
        ended.update(found)
        await asyncio.sleep(ROUND_S)
    return len(ended)


def _strays(session: int | None, marks: list[bytes]) -> list[int]:
    processes = {int(path.name): found for path in Path("/proc").glob("[0-9]*") if (found := _look(path))}
    return [
        pid
        for pid, process in processes.items()
        if not process.zombie
        and ((session and process.session == session) or (len(marks) == len(MARKS) and _is_marked(pid, marks)))
        and not _is_guarded(pid, processes)
    ]


def _look(path: Path) -> Process | None:
    try:
        fields = (path / "stat").read_bytes().rpartition(b")")[2].split()
    except OSError:  # ended while we looked
        return None
    return Process(int(fields[1]), int(fields[3]), fields[0] in b"ZX")


def _is_marked(pid: int, marks: list[bytes]) -> bool:
    try:
        born_with = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False
    return all(mark in born_with for mark in marks)


def _is_guarded(pid: int, processes: Mapping[int, Process]) -> bool:
    while pid in processes:
        try:
            if b"/guardian.py\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return True
        except OSError:
            return False
        pid = processes[pid].parent
    return False
