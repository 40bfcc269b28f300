"""PostgreSQL for tests: one server for the whole session, shared by all workers, and private ones to break.

The session's folder holds a named pipe whose writer is the process that pytest was started as. The first test that
needs a database starts the server with the reading end, so it ends with the session, however that one ends, and
takes its folder along. `JOBSD_TEST_POSTGRES=15` runs Debian's PostgreSQL 15 instead of the embedded one.

Their folders are in memory where there is room; a new cluster is a copy of one that is made once.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from jobsd import embedded
from jobsd.store.migrate import migrate
from tests.support.eventually import eventually

T = TypeVar("T")
TEMPLATE = "jobsd_template"
MEMORY = Path("/dev/shm")
ROOM_BYTES = 4 << 30  # what a session may need: as much must be free, else the disk it is
CARELESS = {"fsync": "off", "full_page_writes": "off", "max_connections": "300"}  # nobody minds if test data is lost
STARTED: list[embedded.Server] = []  # kept: it outlives the worker that started it, and must not be waited for


def binaries() -> Path | None:
    """The server to test on; None: the embedded one."""
    major = os.environ.get("JOBSD_TEST_POSTGRES")
    return Path(f"/usr/lib/postgresql/{major}/bin") if major else None


def roomy() -> Path | None:
    """Where to make a server's folder: in memory if it has room; None: where everything temporary is."""
    if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ROOM_BYTES:
        return MEMORY
    return None


class SessionFolder:
    """What the workers share. Made by the process that pytest was started as; its end is the server's end."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="jobsd-test-", dir=roomy()))
        os.mkfifo(self.path / "lifeline")
        self._writer = os.open(self.path / "lifeline", os.O_RDWR)

    def close(self) -> None:
        os.close(self._writer)
        with suppress(FileNotFoundError), (self.path / "log").open() as log:
            fcntl.flock(log, fcntl.LOCK_EX)  # free when no process of the server is left
        shutil.rmtree(self.path, ignore_errors=True)


class Cluster:
    """The session's server as one worker sees it: makes and drops databases."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        with _alone(folder):
            self._url = self._address(folder)
            self._admin: asyncpg.Connection = self.run(asyncpg.connect(self._url))
            self._made = 0
            if not self.run(self._admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", TEMPLATE)):
                self._make_template()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do it from a fixture that is not async, on a loop of our own."""
        return self._loop.run_until_complete(work)

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """A database of its own, dropped at the end whoever still uses it. Gives its URL."""
        self._made += 1
        name = f"test_{os.getpid()}_{self._made}"
        self.run(self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
        try:
            yield self._of(name)
        finally:
            self.run(self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))

    def close(self) -> None:
        self.run(self._admin.close())
        self._loop.close()

    def _address(self, folder: Path) -> str:
        address = folder / "address"
        if not address.exists():
            lifeline = os.open(folder / "lifeline", os.O_RDONLY)
            server = embedded.start(folder, binaries(), CARELESS, lifeline=lifeline, temporary=True)
            os.close(lifeline)
            STARTED.append(server)
            address.write_text(server.url())
        return address.read_text()

    def _make_template(self) -> None:
        """Under another name until it is whole."""
        self.run(self._admin.execute(f'CREATE DATABASE "{TEMPLATE}_half"'))
        self.run(migrate(self._of(f"{TEMPLATE}_half")))
        self.run(self._admin.execute(f'ALTER DATABASE "{TEMPLATE}_half" RENAME TO "{TEMPLATE}"'))

    def _of(self, database: str) -> str:
        return self._url.replace("/postgres?", f"/{database}?")


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "alone").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def new_cluster(session: Path, folder: Path) -> None:
    """Give the server of `folder` its cluster: a copy of the session's unused one, made by whoever comes first."""
    unused = session / "unused"
    with _alone(session):
        if not unused.exists():
            made = session / "unused_half"
            embedded.start(made, binaries(), CARELESS).stop()
            made.rename(unused)
    shutil.copytree(unused / "data", folder / "data")


class OwnServer:
    """A durable server that a test may stop, kill and start again at the same address.

    Begins with an empty cluster in `folder`, or with the one that is there already.
    """

    def __init__(self, session: Path, folder: Path, settings: Mapping[str, str]) -> None:
        if not (folder / "data").exists():
            new_cluster(session, folder)
        self.folder = folder
        self.settings = settings
        self.server = self._start()

    def url(self, database: str = "postgres") -> str:
        return self.server.url(database)

    async def database(self, name: str = "jobsd") -> str:
        """A migrated database; gives its URL."""
        await self.server.create_database(name)
        await migrate(self.url(name))
        return self.url(name)

    def stop(self) -> None:
        self.server.stop()

    def start(self) -> None:
        self.server = self._start()

    def kill9(self) -> None:
        """Kill the postmaster and wait until every process of the server is gone."""
        os.kill(self.server.pid, signal.SIGKILL)
        self.server.stop()
        with (self.folder / "log").open() as log:
            fcntl.flock(log, fcntl.LOCK_EX)

    def end(self, how: signal.Signals) -> None:
        """Have the postmaster shut down: TERM is smart, INT fast, QUIT immediate. Returns when it is gone."""
        os.kill(self.server.pid, how)
        self.server.supervisor.wait()
        self.server.stop()

    async def set(self, name: str, value: str) -> None:
        """Change a setting as an operator does, by ALTER SYSTEM, and wait until new sessions have it."""
        await asked(self.url(), f"ALTER SYSTEM SET {name} = '{value}'")
        await asked(self.url(), "SELECT pg_reload_conf()")
        await eventually(lambda: asked(self.url(), f"SHOW {name}", writing=False), value)

    def copy(self, data: Path) -> None:
        """Make `data` the cluster of a standby of this server."""
        program = (binaries() or embedded.installed()) / "pg_basebackup"
        where = ["-h", str(self.server.socket_dir), "-U", "postgres", "-D", str(data)]
        subprocess.run([program, *where, "-R", "-c", "fast", "--no-sync"], check=True, capture_output=True, timeout=60)
        data.chmod(0o700)

    def _start(self) -> embedded.Server:
        return embedded.start(self.folder, binaries(), self.settings)


async def asked(url: str, sql: str, *, writing: bool = True) -> Any:
    """The answer to one question, on a connection of its own: `writing` also where the server's default says no."""
    con = await asyncpg.connect(url, server_settings={"default_transaction_read_only": "off"} if writing else {})
    try:
        return await con.fetchval(sql)
    finally:
        await con.close()
