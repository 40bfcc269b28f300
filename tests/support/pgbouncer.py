"""A PgBouncer of the test's own, before a server that it reaches through a proxy."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import pytest

from tests.support.eventually import eventually

PROGRAM = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
needs_pgbouncer = pytest.mark.skipif(PROGRAM is None, reason="needs the Debian package pgbouncer")
PORT = 6432  # in the name of its socket alone


class PgBouncer:
    """Listens on a Unix socket in a folder of its own. `settings` are those of its file's section [pgbouncer]."""

    def __init__(self, server_port: int, settings: Mapping[str, str]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobsd-b-"))
        self.folder.chmod(0o777)  # root's PgBouncer becomes somebody else
        ours = {
            "listen_addr": "",
            "listen_port": str(PORT),
            "unix_socket_dir": str(self.folder),
            "auth_type": "any",
            "admin_users": "postgres",
            "pool_mode": "transaction",
            "server_login_retry": "1",
            **settings,
        }
        lines = "\n".join(f"{name} = {value}" for name, value in ours.items())
        server = f"* = host=127.0.0.1 port={server_port} user=postgres"
        self._file = self.folder / "pgbouncer.ini"
        self._file.write_text(f"[databases]\n{server}\n[pgbouncer]\n{lines}\n")
        self._file.chmod(0o644)

    def url(self, database: str) -> str:
        return f"postgresql://postgres@/{database}?host={self.folder}&port={PORT}"

    async def start(self) -> None:
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 else []
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen([str(PROGRAM), *as_nobody, str(self._file)], stderr=log, stdout=log)
        await eventually(self._answers, True)

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    async def command(self, words: str) -> None:
        """Say RECONNECT, PAUSE, … on its console."""
        con = await asyncpg.connect(self.url("pgbouncer"), statement_cache_size=0)
        try:
            await con.execute(words)
        finally:
            con.terminate()

    def close(self) -> None:
        if self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.folder)

    async def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "log").read_text())
        try:
            await self.command("SHOW VERSION")
        except (OSError, asyncpg.PostgresError):
            return False
        return True


@contextmanager
def pgbouncer(server_port: int, **settings: str) -> Iterator[PgBouncer]:
    made = PgBouncer(server_port, settings)
    try:
        yield made
    finally:
        made.close()
