"""What the tests of executors stand on: executions of real jobs under real guardians, and a record of what they say."""

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from jobsd.domain.job import JobDefinition
from jobsd.domain.outcome import Completed, Failed, Lost, Outcome
from jobsd.domain.run import ClaimedRun, Fence, RunId
from jobsd.engine.executors.base import Execution
from jobsd.engine.executors.guardians import LOCK, Guardians
from jobsd.engine.executors.pipeline import Progress
from jobsd.handlers import resolve
from jobsd.store import db

PATIENCE_S = 30.0  # how long anything awaited may take before a test fails
SLOT = datetime(2026, 3, 1, 6, 30, tzinfo=UTC)
HANDLERS = "tests.engine.executors.handlers"


RUNNING_RUN = """
    WITH there AS (
        INSERT INTO jobsd.node (name, host, instance, boot_id, pid, version, pools, registry)
        SELECT 'bench', 'testhost', 'bench', 'boot', 1, '0', '{}', '' WHERE NOT EXISTS (SELECT FROM jobsd.node)
    )
    INSERT INTO jobsd.run (job, actor) VALUES ('work', 'test') RETURNING id
"""
CLAIMED = """
    UPDATE jobsd.run
       SET state = 'running', ready = NULL, node = (SELECT min(id) FROM jobsd.node), fence = $2, attempt = 2,
           version = 2, started_at = now()
     WHERE id = $1
"""


def boottime_ns(in_s: float = 0.0) -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(in_s * 1e9)


class Recorder:
    """Keeps what a run reports, and lets a test wait for it."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object, str]] = []
        self.steps: list[tuple[str | None, float, object]] = []
        self._news = asyncio.Event()

    async def progress(self, told: Progress) -> None:
        self._add(("progress", told.fraction, told.note))
        self.steps.append((told.step, told.fraction, told.steps))

    async def heartbeat(self) -> None:
        self._add(("heartbeat", None, ""))

    async def message(self, level: str, text: str) -> None:
        self._add(("message", level, text))

    def _add(self, line: tuple[str, object, str]) -> None:
        self.told.append(line)
        self._news.set()

    async def heard(self, text: str) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not any(line[2] == text for line in self.told):
                self._news.clear()
                await self._news.wait()


class Bench:
    """Makes executions. `lease_s`: how long its guardians may let things run."""

    def __init__(self, state_dir: Path, lease_s: float = 600.0) -> None:
        self.state_dir = state_dir
        self.guardians = Guardians(state_dir)
        self.guardians.renew(boottime_ns(lease_s))
        self.report = Recorder()
        self.url: str | None = None

    def execution(self, *, run: dict[str, Any] | None = None, dry_run: bool = False, **keys: Any) -> Execution:
        definition = JobDefinition.model_validate({"name": "work", "grace": "200ms", **keys})
        claimed = {
            "id": RunId(12),
            "job": definition.name,
            "fence": Fence(77),
            "attempt": 2,
            "retries": 1,
            "version": 3,
            "params": {},
            "dry_run": False,
            "slot_at": SLOT,
            "due_at": SLOT,
            "started_at": SLOT,
            "lock_key": 1,
            "seat": None,
        }
        return Execution(
            run=ClaimedRun(**{**claimed, **(run or {})}),
            definition=definition,
            handler=resolve(definition),
            params={**definition.params, **(run or {}).get("params", {})},
            report=self.report,
            connect=self.connect,
            guardians=self.guardians,
            database_url=self.url,
            dry_run=dry_run,
        )

    async def running(self) -> dict[str, Any]:
        """Let the database have a run that is running; what `execution` needs to know of it."""
        assert self.url is not None
        async with db.Db.open(self.url) as opened:
            run = await opened.fetchval(RUNNING_RUN)
            await opened.execute(CLAIMED, run, 70 + run)
        return {"id": RunId(run), "fence": Fence(70 + run), "lock_key": None}

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Any]:
        assert self.url is not None
        async with db.dedicated(self.url, application_name="jobsd test", fence=77, run_id=12) as connection:
            yield connection


def completed(outcome: Outcome) -> Completed:
    assert isinstance(outcome, Completed), outcome
    return outcome


def output(outcome: Outcome) -> str:
    """What a completed one wrote."""
    return str(completed(outcome).usage.output)


def failed(outcome: Outcome) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def lost(outcome: Outcome) -> Lost:
    assert isinstance(outcome, Lost), outcome
    return outcome


async def until(happened: Callable[[], bool]) -> None:
    """Wait for what nothing can notify us of: a file that another process writes, a process that ends."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.01)


async def pids_in(path: Path, count: int) -> list[int]:
    """The process ids that the job writes to `path`, a line each, once there are `count`."""
    await until(lambda: path.exists() and path.read_text().count("\n") >= count)
    return [int(line) for line in path.read_text().split()]


async def all_trees_gone(state_dir: Path) -> None:
    """What a daemon does that takes over: get the lock that every guardian shares."""
    fd = os.open(state_dir / LOCK, os.O_RDWR | os.O_CREAT)
    try:
        await asyncio.wait_for(asyncio.to_thread(fcntl.flock, fd, fcntl.LOCK_EX), PATIENCE_S)
    finally:
        os.close(fd)


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


async def until_async(ask: Callable[[], Awaitable[object]], answer: object) -> None:
    """The same for what a server knows."""
    async with asyncio.timeout(PATIENCE_S):
        while await ask() != answer:
            await asyncio.sleep(0.01)


# The command itself, a child, a grandchild in a session of its own that lets go of its output, and an orphan.
TREE = """
sleep 1000 & echo $! >> PIDS
setsid sh -c 'echo $$ >> PIDS; exec sleep 1001 >/dev/null 2>&1' &
sh -c 'setsid sleep 1002 & echo $! >> PIDS'
echo $$ >> PIDS
wait
"""
TREE_SIZE = 4


def tree(pids: Path) -> list[str]:
    return ["sh", "-c", TREE.replace("PIDS", str(pids))]


def guardians_of(pid: int) -> list[psutil.Process]:
    return [child for child in psutil.Process(pid).children() if "guardian.py" in " ".join(child.cmdline())]
