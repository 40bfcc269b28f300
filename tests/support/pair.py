"""A primary and its streaming standby, each a server of its own to stop, freeze, kill and promote."""

import asyncio
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from jobsd import embedded
from tests.support.eventually import eventually
from tests.support.postgres import OwnServer, asked, binaries

QUICK = {"fsync": "off", "full_page_writes": "off"}  # a process may die, the machine does not

STREAMS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = sent_lsn"


class Pair:
    """Made by `made`. `url` names both servers, the primary first."""

    def __init__(self, primary: OwnServer, standby: OwnServer) -> None:
        self.primary = primary
        self.standby = standby

    @classmethod
    async def made(cls, settings: Mapping[str, str], *, synchronous: bool) -> "Pair":
        """Start both, with a migrated database `jobsd`; `synchronous`: a commit waits for the standby."""
        settings = {**QUICK, **settings}
        primary = await asyncio.to_thread(OwnServer, _folder(), settings)
        await primary.database()
        folder = _folder()
        await asyncio.to_thread(_copy, primary.server.socket_dir, folder / "data")
        pair = cls(primary, await asyncio.to_thread(OwnServer, folder, settings))
        await eventually(lambda: asked(primary.url(), STREAMS), 1)
        if synchronous:
            await primary.set("synchronous_standby_names", "*")
        return pair

    def url(self, database: str = "jobsd") -> str:
        sockets = [each.server.socket_dir for each in (self.primary, self.standby)]
        hosts = ",".join(map(str, sockets))
        return f"postgresql://postgres@/{database}?host={hosts}&port=5432,5432&target_session_attrs=read-write"

    async def promote(self) -> None:
        """Make the standby the primary of a new timeline, which no longer waits for a standby of its own."""
        await self.standby.set("synchronous_standby_names", "")
        assert await asked(self.standby.url(), "SELECT pg_promote()")

    async def stop_streaming(self) -> None:
        """From here on the standby hears nothing of what the primary commits."""
        await self.standby.set("primary_conninfo", "")
        await eventually(lambda: asked(self.primary.url(), "SELECT count(*) FROM pg_stat_replication"), 0)

    def close(self) -> None:
        for server in (self.standby, self.primary):
            server.close()


def _folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="jobsd-p-"))


def _copy(socket_dir: Path, data: Path) -> None:
    program = (binaries() or embedded.installed()) / "pg_basebackup"
    argv = [program, "-h", socket_dir, "-U", "postgres", "-D", data, "-R", "-X", "stream", "-c", "fast", "--no-sync"]
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
    data.chmod(0o700)
