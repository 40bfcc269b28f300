"""Signals: HUP reloads, TERM and INT stop in three stages, USR1 dumps the state, others trigger jobs that name them."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from enum import IntEnum

from jobsd.domain.job import FREE_SIGNALS, JobDefinition


class Stage(IntEnum):
    """How far the daemon has been asked to stop."""

    RUNNING = 0
    DRAIN = 1  # the first TERM or INT: runs may finish
    CUT = 2  # the second: running work is cancelled
    # the third ends the process at once; its runs are settled by the next start


class Stop:
    """The stages as events."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.stage = Stage.RUNNING
        self.asked: asyncio.Future[None] = loop.create_future()
        self.cut: asyncio.Future[None] = loop.create_future()

    def next(self) -> None:
        """One more signal to stop."""
        if self.stage is Stage.RUNNING:
            self.stage = Stage.DRAIN
            self.asked.set_result(None)
        elif self.stage is Stage.DRAIN:
            self.stage = Stage.CUT
            self.cut.set_result(None)
        else:
            sys.stderr.flush()
            os._exit(1)  # at once, as asked: guardians end the commands, the next start settles the runs


def number_of(name: str) -> int:
    """ "SIGUSR2" or "SIGRTMIN+3" as this system numbers it."""
    base, sign, offset = name.partition("+") if "+" in name else name.partition("-")
    return int(signal.Signals[base]) + int(f"{sign}{offset}" or 0)


class Bell:
    """Which signals trigger which jobs; told anew with every registry. The free ones that no job names do nothing.

    They are handled, not ignored: what is ignored stays so in the programs that jobs start.
    """

    def __init__(self, ring: Callable[[str, str], None]) -> None:
        self._ring = ring  # job, signal's name
        self.listen({})

    def listen(self, jobs: Mapping[str, JobDefinition]) -> None:
        loop = asyncio.get_running_loop()
        for name in FREE_SIGNALS:
            loop.add_signal_handler(number_of(name), _nothing)
        for job in jobs.values():
            if job.signal and job.enabled:
                loop.add_signal_handler(number_of(job.signal), self._ring, job.name, job.signal)


def _nothing() -> None:
    return None


def listen(stop: Stop, reload: Callable[[], None], dump: Callable[[], None]) -> None:
    """Bind the signals that every daemon has."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.next)
    loop.add_signal_handler(signal.SIGHUP, reload)
    loop.add_signal_handler(signal.SIGUSR1, dump)
