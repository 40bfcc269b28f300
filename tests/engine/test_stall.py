"""The stall watch, on both kinds of loop: it speaks while the loop stands still, and names who blocks it."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop

from jobsd.domain.events import Event, LoopBlocked
from jobsd.engine.stall import StallWatch, blocked_alert

LOOPS: list[Callable[[], asyncio.AbstractEventLoop]] = [asyncio.new_event_loop, uvloop.new_event_loop]
WAIT_S = 20


class Heard:
    """What the watch says, from its own thread; `spoke` is set at the first word."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.threads: list[str] = []
        self.lags: list[float] = []
        self.spoke = threading.Event()
        self.in_loop: list[tuple[LoopBlocked, int]] = []
        self.over = asyncio.Event()

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.threads.append(threading.current_thread().name)
        self.spoke.set()

    def blocked(self, event: LoopBlocked) -> None:
        self.in_loop.append((event, threading.get_ident()))
        self.over.set()


@pytest.mark.req("P11")
@pytest.mark.parametrize("new_loop", LOOPS, ids=["asyncio", "uvloop"])
def test_a_blocked_loop_is_told_of_with_task_and_stack_while_it_is_blocked_and_once_when_it_is_over(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    heard = Heard()

    async def blocks_the_loop() -> None:
        assert heard.spoke.wait(WAIT_S)  # the loop stands still until the watch has spoken

    async def main() -> None:
        watch = StallWatch(
            asyncio.get_running_loop(), heard.emit, heard.lags.append, heard.blocked, limit_s=0.1, tick_s=0.02
        )
        watch.start()
        await asyncio.create_task(blocks_the_loop(), name="run 12 daily_report")
        await asyncio.wait_for(heard.over.wait(), WAIT_S)
        watch.stop()
        await asyncio.to_thread(watch.join, WAIT_S)
        assert not watch.is_alive()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())

    first, last = heard.events
    assert isinstance(first, LoopBlocked)
    assert isinstance(last, LoopBlocked)
    assert (first.task, first.over) == ("run 12 daily_report", False)
    assert "blocks_the_loop" in first.stack
    assert last.over
    assert last.for_s >= first.for_s >= 0.1
    assert heard.threads == ["stall watch", "stall watch"]
    assert heard.in_loop == [(last, threading.get_ident())]
    assert max(heard.lags) >= 0.1


async def test_a_loop_that_answers_is_measured_and_not_complained_of() -> None:
    heard, measured = Heard(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def lag(lag_s: float) -> None:
        heard.lags.append(lag_s)
        if len(heard.lags) >= 5:
            loop.call_soon_threadsafe(measured.set)

    watch = StallWatch(loop, heard.emit, lag, heard.blocked, limit_s=10, tick_s=0.01)
    watch.start()
    await asyncio.wait_for(measured.wait(), WAIT_S)
    watch.stop()
    await asyncio.to_thread(watch.join, WAIT_S)

    assert heard.events == []
    assert all(lag_s >= 0 for lag_s in heard.lags)


def test_it_ends_with_its_loop() -> None:
    async def main() -> StallWatch:
        heard = Heard()
        watch = StallWatch(asyncio.get_running_loop(), heard.emit, heard.lags.append, heard.blocked, tick_s=0.01)
        watch.start()
        return watch

    watch = asyncio.run(main())

    watch.join(WAIT_S)
    assert not watch.is_alive()


FROZEN = """
import asyncio, sys, time
from jobsd.engine.stall import StallWatch

async def main():
    loop = asyncio.get_running_loop()
    said = []
    watch = StallWatch(loop, said.append, lambda s: None, said.append, limit_s=0.5, tick_s=0.001)
    watch.start()
    print("ready", flush=True)
    over = loop.run_in_executor(None, sys.stdin.readline)
    while not over.done():  # busy for less than the limit, so that the watch waits for an answer when all is stopped
        for _ in range(20):
            time.sleep(0.01)
        await asyncio.sleep(0)
    print(len(said), flush=True)

asyncio.run(main())
"""


@pytest.mark.req("P11")
def test_a_process_that_was_stopped_and_goes_on_blames_no_task() -> None:
    child = subprocess.Popen([sys.executable, "-c", FROZEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdin
    assert child.stdout
    with child:
        assert child.stdout.readline() == "ready\n"
        for _ in range(3):
            threading.Event().wait(0.3)  # a while of ordinary work
            os.kill(child.pid, signal.SIGSTOP)
            _until_stopped(child.pid)
            threading.Event().wait(1.2)  # stopped for longer than twice the limit
            os.kill(child.pid, signal.SIGCONT)
        out, _ = child.communicate("go on\n", timeout=WAIT_S)

    assert out == "0\n"


def _until_stopped(pid: int) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        continue


def test_the_alert_of_a_block_is_one_for_all_runs_of_a_job() -> None:
    one = blocked_alert(LoopBlocked(2.04, "run 12 daily_report", "File x", over=True))
    two = blocked_alert(LoopBlocked(3.0, "run 13 daily_report", "File y", over=True))
    other = blocked_alert(LoopBlocked(3.0, "run 13 weekly_report", "File y", over=True))

    assert (one.type, one.summary) == (
        "HEALTH",
        'the event loop stood still for 2.0 s, blocked by task "run 12 daily_report"',
    )
    assert one.detail["stack"] == "File x"
    assert one.fingerprint == two.fingerprint != other.fingerprint
