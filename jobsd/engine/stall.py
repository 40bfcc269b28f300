"""Watches the main loop from a thread: measures its lag, and names the task and the frame that block it (P11).

The thread speaks while the loop stands still, so `emit` and `lag` are called in it and must be safe there: the log
writes under a lock, a gauge has one of its own. `blocked`, which may use the database, is called in the loop.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from jobsd.domain.events import LoopBlocked, Observe
from jobsd.domain.lifecycle import fingerprint
from jobsd.domain.outcome import AlertRow

TICK_S = 0.25
BLOCKED_S = 0.5
FRAMES = 30


@dataclass
class Tick:
    """A question to the loop: are you there?"""

    asked: float = field(default_factory=time.monotonic)
    answered: float = 0.0
    there: threading.Event = field(default_factory=threading.Event)

    def answer(self) -> None:
        self.answered = time.monotonic()
        self.there.set()

    @property
    def lag_s(self) -> float:
        return self.answered - self.asked


class StallWatch(threading.Thread):
    """Start it in the loop's thread. Told once when a block is seen, and once when it is over, with its length."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        emit: Observe,
        lag: Callable[[float], None],
        blocked: Callable[[LoopBlocked], None],
        *,
        limit_s: float = BLOCKED_S,
        tick_s: float = TICK_S,
    ) -> None:
        super().__init__(name="stall watch", daemon=True)
        self._loop = loop
        self._emit = emit
        self._lag = lag
        self._blocked = blocked
        self._limit_s = limit_s
        self._tick_s = tick_s
        self._main = threading.get_ident()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End it within a tick; of a block that lasts no more is told."""
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(self._tick_s):
            tick = Tick()
            try:
                self._loop.call_soon_threadsafe(tick.answer)
            except RuntimeError:  # the loop is closed
                return
            if not self._answered(tick):
                self._tell_of(tick)
            if tick.there.is_set():
                self._lag(tick.lag_s)

    def _answered(self, tick: Tick) -> bool:
        """Whether the loop answers in time. If the whole process stood still (stopped, suspended) it is asked on."""
        while True:
            began, burnt = time.monotonic(), time.process_time()
            if tick.there.wait(self._limit_s):
                return True
            took = time.monotonic() - began
            frozen = took > 2 * self._limit_s and time.process_time() - burnt < took / 2
            if not frozen:
                return False

    def _tell_of(self, tick: Tick) -> None:
        """Tell that it is blocked while it is, then wait for it, then tell how long it was."""
        task, stack = self._task(), self._stack()
        self._emit(LoopBlocked(time.monotonic() - tick.asked, task, stack))
        while not tick.there.wait(self._tick_s):
            if self._stopped.is_set() or self._loop.is_closed():
                return
            self._lag(time.monotonic() - tick.asked)
        over = LoopBlocked(tick.lag_s, task, stack, over=True)
        self._emit(over)
        try:
            self._loop.call_soon_threadsafe(self._blocked, over)
        except RuntimeError:
            return

    def _task(self) -> str:
        task = asyncio.current_task(self._loop)
        return task.get_name() if task else ""

    def _stack(self) -> str:
        """Where the main thread stands, outermost first; empty if it is gone."""
        frame = sys._current_frames().get(self._main)
        return "".join(traceback.format_stack(frame)[-FRAMES:]) if frame else ""


def blocked_alert(blocked: LoopBlocked) -> AlertRow:
    """The alert of a block that is over: one fingerprint a task's kind, whatever its run."""
    words = [word for word in blocked.task.split() if not word.isdigit()]
    what = f'by task "{blocked.task}"' if blocked.task else "outside any task"
    return AlertRow(
        type="HEALTH",
        fingerprint=fingerprint("HEALTH", "loop_blocked", " ".join(words)),
        summary=f"the event loop stood still for {blocked.for_s:.1f} s, blocked {what}",
        detail={"task": blocked.task, "stack": blocked.stack},
    )
