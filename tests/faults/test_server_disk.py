"""The disk of PostgreSQL is full: what is finished is not done again, and is written when there is room."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobsd.store.db import Db
from tests.conftest import FOLDER
from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.locked import locked
from tests.support.postgres import OwnServer, new_cluster, roomy

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small disk, which is root's to do")
Start = Callable[..., Awaitable[Daemon]]
JOBS = """
[jobs.in_loop]
handler = "tests.daemon.work:waits"

[jobs.waiting]
command = ["true"]
pool = "none that is served"
lock_key = "{run_id}"
"""
SIZE = "150M"
QUIET = {"autovacuum": "off", "checkpoint_timeout": "1h", "max_wal_size": "1GB"}  # a checkpoint would be a PANIC
BEAT = "SELECT beat FROM jobsd.node WHERE state = 'live'"
MANY = [{"params": {"fill": "x" * 1000}}] * 20


class Disk:
    """A small file system of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0700", "jobsd-test", path], check=True)

    def fill(self) -> None:
        with (self.path / "filler").open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(1 << 12))
            except OSError:
                return

    def make_room(self) -> None:
        (self.path / "filler").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", self.path], check=True)


@pytest.fixture
def small_disk(request: pytest.FixtureRequest) -> Iterator[tuple[Disk, OwnServer]]:
    """A server whose tables are on a disk of their own; its log of changes is elsewhere, where there is room."""
    folder = Path(tempfile.mkdtemp(prefix="jobsd-disk-"))
    wal = Path(tempfile.mkdtemp(prefix="jobsd-wal-", dir=roomy()))
    disk = Disk(folder)
    try:
        session = request.config.stash[FOLDER]
        new_cluster(session, folder)
        shutil.move(folder / "data" / "pg_wal", wal / "pg_wal")
        (folder / "data" / "pg_wal").symlink_to(wal / "pg_wal")
        server = OwnServer(session, folder, QUIET)
        yield disk, server
        (folder / "filler").unlink(missing_ok=True)
        server.stop()
    finally:
        disk.close()
        folder.rmdir()
        shutil.rmtree(wal)


async def until_full(node: Daemon) -> tuple[list[int], Any]:
    """Ask for runs until one is refused: the ids of those that were acknowledged, and the refusal."""
    acknowledged: list[int] = []
    for _ in range(2_000):
        status, answer = await node.request("POST", "/api/v1/jobs/waiting/runs", {"runs": MANY})
        if status != 201:
            return acknowledged, (status, answer)
        acknowledged += answer["ids"]
    raise AssertionError("the disk never was full")


@pytest.mark.req("P5", "P3", "P6")
@pytest.mark.fault(14)
async def test_a_full_disk_costs_no_outcome_no_lock_and_no_heartbeat_and_mends_itself_when_there_is_room(
    daemon: Start, small_disk: tuple[Disk, OwnServer]
) -> None:
    disk, server = small_disk
    url = await server.database()
    node = await daemon(JOBS, url=url)
    run = await node.trigger("in_loop")
    await node.traced("begun in_loop 1")
    async with Db.open(url) as db:
        disk.fill()
        acknowledged, (status, problem) = await until_full(node)
        node.release()
        await node.traced("ended in_loop 1")
        await node.seen("database_trouble", loop="settler")
        beat = await db.fetchval(BEAT)
        await eventually(lambda: further(db, beat + 2), True)
        while_full = await db.fetchval("SELECT state FROM jobsd.run WHERE id = $1", run)
        held = await locked(db)
        await eventually(lambda: verdict(node), "degraded")

        disk.make_room()
        await node.seen("run_completed", run=run, attempt=1)
        await eventually(lambda: verdict(node), "healthy")

        stored = [row["id"] for row in await db.fetch("SELECT id FROM jobsd.run WHERE job = 'waiting' ORDER BY id")]
        attempts = await db.fetch("SELECT outcome FROM jobsd.attempts WHERE run = $1", run)
    assert (status, "disk" in str(problem) or "space" in str(problem)) == (503, True)
    assert (while_full, held) == ("running", 1)
    assert stored == acknowledged
    assert [row["outcome"] for row in attempts] == ["completed"]
    assert await node.traced("begun in_loop") == ["1"]
    assert (await node.request("POST", "/api/v1/jobs/waiting/runs", {}))[0] == 201
    assert await node.stop() == 0


async def further(db: Db, beat: int) -> bool:
    return bool(await db.fetchval(f"SELECT ({BEAT}) >= $1", beat))


async def verdict(node: Daemon) -> str:
    """Of what the database is to be told."""
    health = (await node.request("GET", "/healthz"))[1]
    return str(health["components"]["settlements"]["verdict"])
