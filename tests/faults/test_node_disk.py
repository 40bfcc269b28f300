"""No room for the daemon's own files, nobody who reads its log: jobs go on all the same, and health tells."""

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]
KINDS = ("command", "in_loop", "apart", "plain")
WORK = """
[jobs.command]
command = ["true"]
[jobs.in_loop]
handler = "tests.daemon.work:ticks"
[jobs.apart]
handler = "tests.daemon.work:ticks"
isolation = "process"
[jobs.plain]
handler = "tests.faults.jobs:does_nothing"
"""
SPEAKS = '\n[jobs.speaks]\nhandler = "tests.faults.jobs:fails_at_length"\nlock_key = "{run_id}"\n'
OVER = "SELECT count(*) FROM jobsd.run WHERE state = $1"


@contextmanager
def tiny_disk(folder: Path) -> Iterator[None]:
    """A file system of 64 KiB, mounted there for the block."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        while folder.is_mount():  # one over the other
            subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    with suppress(OSError), (folder / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


async def each_works(node: Daemon) -> None:
    for kind in KINDS:
        run = await node.trigger(kind)
        await node.seen("run_completed", run=run)


async def component(node: Daemon, name: str) -> str:
    health = (await node.request("GET", "/healthz"))[1]
    return str(health["components"][name]["verdict"])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a disk to fill")
@pytest.mark.fault(15)
@pytest.mark.req("P5", "P11")
async def test_a_full_and_then_read_only_disk_under_the_daemons_files_stops_no_job_and_no_start(
    daemon: Start, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    with tiny_disk(disk):
        node = await daemon(WORK, settings={"daemon": {"state_dir": str(disk)}})
        await each_works(node)

        fill(disk)
        await each_works(node)
        full = await component(node, "disk")
        await node.kill9()
        await node.start()
        await each_works(node)

        subprocess.run(["mount", "--bind", disk, disk], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", disk], check=True)
        with pytest.raises(OSError, match="Read-only"):
            (disk / "more").touch()
        await each_works(node)
        stopped = await node.stop()

    assert (full, stopped) == ("critical", 0)


@pytest.mark.fault(15)
@pytest.mark.req("P11", "C3")
async def test_a_reader_of_the_log_that_hangs_or_leaves_holds_up_nothing_and_is_told_of_the_lines_it_missed(
    daemon: Start, db: Db
) -> None:
    node = await daemon(WORK + SPEAKS)

    node.log_reading(on=False)
    speeches = 60  # of 8 kB in the log: more than the pipe and the memory for waiting lines hold
    for _ in range(speeches):
        await node.trigger("speaks")
    await eventually(lambda: db.fetchval(OVER, "failed"), speeches)
    ready, degraded = (await node.request("GET", "/readyz"))[0], await component(node, "log")
    node.log_reading(on=True)
    told = await node.seen("log_lines_lost")
    await each_works(node)
    torn = list(node.said)
    stderr = node.process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
    stderr.close()
    for kind in KINDS:
        await node.trigger(kind)
    await eventually(lambda: db.fetchval(OVER, "completed"), 2 * len(KINDS))

    assert (ready, degraded, torn) == (200, "degraded", [])
    assert told["count"] > 0 and told["level"] == "warning"
    assert await node.stop() == 0
