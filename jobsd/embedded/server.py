"""A server in a folder, for as long as this process lives. Its processes are `supervisor`'s.

The folder holds `data` (the cluster), `log`, and the Unix socket, the only way in; all of it is the owner's alone.
"""

import asyncio
import fcntl
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import quote

import asyncpg

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.embedded.binaries import installed

SUPERVISOR = Path(__file__).with_name("supervisor.py")
START_S = 120.0  # making a cluster, or recovering one, on a slow disk
LONGEST_SOCKET = 107  # of sun_path, less its final zero
SOCKET_NAME = "/.s.PGSQL.5432.lock"
EVERYWHERE = {"listen_addresses": "", "unix_socket_permissions": "0700", "timezone": "UTC", "log_timezone": "UTC"}


@dataclass(eq=False)
class Server:
    """A running PostgreSQL. `version` is "18.4"; `pid` is its postmaster."""

    folder: Path
    socket_dir: Path
    version: str
    pid: int
    supervisor: "subprocess.Popen[bytes]"
    lock: int  # of the folder: one process at a time uses it

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{quote(database, safe='')}?host={quote(str(self.socket_dir))}&port=5432"

    async def create_database(self, name: str) -> None:
        """Make the database `name` unless it is there."""
        connection = await asyncpg.connect(self.url())
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        except asyncpg.DuplicateDatabaseError:
            pass
        finally:
            await connection.close()

    def stop(self) -> None:
        """Shut it down fast and wait until it is gone. Twice does no harm."""
        if self.supervisor.stdin:
            self.supervisor.stdin.close()
        self.supervisor.wait()
        if self.lock >= 0:
            os.close(self.lock)
            self.lock = -1


def start(
    folder: Path,
    binaries: Path | None = None,
    settings: Mapping[str, str] | None = None,
    *,
    lifeline: int | None = None,
    temporary: bool = False,
) -> Server:
    """Start the server of `folder`, which is made when missing, and wait until it answers.

    It ends with this process, or when the pipe whose reading end is `lifeline` has no writer any more; a `temporary`
    one takes its folder along. `settings` are PostgreSQL's. Raises E0405 (in use), E0406, E0601, E0602.
    """
    folder, binaries = folder.absolute(), binaries or installed()
    lock = hold(folder)
    try:
        socket_dir = _socket_dir(folder)
        order = {
            "folder": str(folder),
            "binaries": str(binaries),
            "socket_dir": str(socket_dir),
            "settings": {**EVERYWHERE, "unix_socket_directories": str(socket_dir), **(settings or {})},
            "temporary": temporary,
        }
        supervisor = _launch(order, lifeline)
        told = _first_line(supervisor, folder)
    except BaseException:
        os.close(lock)
        raise
    return Server(folder, socket_dir, str(told["version"]), int(str(told["pid"])), supervisor, lock)


@asynccontextmanager
async def server(
    folder: Path, binaries: Path | None = None, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Server]:
    """`start`, and `stop` at the end, off the event loop."""
    running = await asyncio.to_thread(start, folder, binaries, settings)
    try:
        yield running
    finally:
        await asyncio.to_thread(running.stop)


def hold(folder: Path) -> int:
    """Make the folder, the owner's alone, and keep other processes from using it as long as this one lives."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise problem("E0406", f"cannot use {folder}: {error.strerror}", exit_code=Exit.PERMISSION) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise problem(
            "E0405", f"another jobsd uses the database in {folder}", "end that one, or use another folder"
        ) from None
    return lock


def _socket_dir(folder: Path) -> Path:
    """The folder itself; a short one where its path does not fit into a socket's address."""
    if len(os.fsencode(folder)) + len(SOCKET_NAME) <= LONGEST_SOCKET:
        return folder
    short = os.environ.get("XDG_RUNTIME_DIR", "/tmp")  # noqa: S108 - mkdtemp makes a folder of our own in it
    return Path(tempfile.mkdtemp(prefix="jobsd-", dir=short))


def _launch(order: Mapping[str, object], lifeline: int | None) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(SUPERVISOR), json.dumps(order)],
        stdin=subprocess.PIPE if lifeline is None else lifeline,
        stdout=subprocess.PIPE,
        cwd="/",
        env={},
        start_new_session=True,  # Ctrl-C of the terminal is for the daemon, which drains before the database goes
    )


def _first_line(supervisor: "subprocess.Popen[bytes]", folder: Path) -> Mapping[str, object]:
    """What the supervisor says: the server is up, or why not."""
    with cast("IO[bytes]", supervisor.stdout) as said:
        line = said.readline() if select.select([said], [], [], START_S)[0] else b""
    told: Mapping[str, object] = json.loads(line) if line else {"error": f"no answer within {START_S:g} s"}
    if "error" in told:
        if not line:
            supervisor.kill()
        supervisor.communicate()
        raise _did_not_start(str(told["error"]), folder)
    return told


def _did_not_start(why: str, folder: Path) -> JobsdError:
    return problem("E0602", f"the embedded PostgreSQL did not start: {why}", f"its log: {folder / 'log'}")
