"""PostgreSQL refuses to be root. What becomes of a root that starts one, on kernels that differ in what they allow."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.embedded.processes import ask, parent, status

pytestmark = [
    pytest.mark.req("F8"),
    pytest.mark.skipif(os.geteuid() != 0, reason="about root, and only root can play the others"),
]
IN_NAMESPACE = """
import ctypes, os, sys
from pathlib import Path

inner, count, namespaces, *command = sys.argv[1:]
me, (wait_child, wake_child), (wait_me, wake_me) = os.getpid(), os.pipe(), os.pipe()
if os.fork() == 0:
    os.read(wait_child, 1)
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{me}/{kind}").write_text(f"{inner} 0 {count}")
    os.write(wake_me, b".")
    os._exit(0)
if ctypes.CDLL(None).unshare(0x10000000):
    sys.exit("no user namespace here")
os.write(wake_child, b".")
os.read(wait_me, 1)
os.wait()
if namespaces == "forbidden":
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
os.execv(command[0], command)
"""
# A root that may not make user namespaces, as in many containers; and an ordinary user, the owner of root's files.
CONTAINED = [sys.executable, "-c", IN_NAMESPACE, "0", "65536", "forbidden"]
ORDINARY = [sys.executable, "-c", IN_NAMESPACE, "1000", "1", "as they are"]
DAC_OVERRIDE = f"{1 << 1:016x}"
NOTHING = f"{0:016x}"


@pytest.fixture
def folder() -> Iterator[Path]:
    """A place that only root can reach."""
    with TemporaryDirectory(prefix="jobsd-u-") as made:
        Path(made).chmod(0o700)
        yield Path(made) / "pg"


async def test_root_gives_up_its_powers_and_keeps_its_files(folder: Path) -> None:
    with parent(folder) as (_, server):
        powers = status(server["postmaster"], "CapEff")
        owners = {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}

        assert await ask(server["url"], "SELECT 42") == 42

    assert powers == [NOTHING]
    assert owners == {0}


async def test_where_namespaces_are_forbidden_another_user_serves_behind_a_closed_door(folder: Path) -> None:
    with parent(folder, CONTAINED) as (_, server):
        user, powers = status(server["postmaster"], "Uid"), status(server["postmaster"], "CapEff")
        doors = {path: path.stat() for path in (folder.parent, folder)}

        assert await ask(server["url"], "SELECT 42") == 42

    assert set(user) == {str((folder / "data").stat().st_uid)} != {"0"}
    assert powers == [DAC_OVERRIDE]
    assert {(door.st_uid, door.st_mode & 0o777) for door in doors.values()} == {(0, 0o700)}


async def test_a_cluster_moves_between_the_two_ways(folder: Path) -> None:
    with parent(folder) as (_, server):
        await ask(server["url"], "CREATE TABLE kept AS SELECT 42 AS n")

    with parent(folder, CONTAINED) as (_, server):
        there = await ask(server["url"], "SELECT n FROM kept")
    with parent(folder) as (_, server):
        back = await ask(server["url"], "SELECT n FROM kept")

    assert (there, back) == (42, 42)


async def test_a_server_of_a_killed_root_ends_also_where_namespaces_are_forbidden(folder: Path) -> None:
    with parent(folder, CONTAINED) as (process, server):
        process.kill()
        process.wait()

        with parent(folder, CONTAINED) as (_, successor):
            assert successor["postmaster"] != server["postmaster"]


async def test_an_ordinary_user_serves_as_itself(folder: Path) -> None:
    with parent(folder, ORDINARY) as (_, server):
        answer = await ask(server["url"], "SELECT 42")

    assert answer == 42
