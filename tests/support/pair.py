"""A primary and its streaming standby, each a server of its own to stop, freeze, kill and promote."""

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.support.eventually import eventually
from tests.support.postgres import OwnServer, asked

STREAMS = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND replay_lsn = sent_lsn"


class Pair:
    """Made by `made`. `url` names both servers, the primary first."""

    def __init__(self, primary: OwnServer, standby: OwnServer) -> None:
        self.primary = primary
        self.standby = standby

    @classmethod
    async def made(cls, start: Callable[..., OwnServer], *, synchronous: bool) -> "Pair":
        """Start both, with a migrated database `jobsd`; `synchronous`: a commit waits for the standby."""
        primary = await asyncio.to_thread(start)
        await primary.database()
        pair = cls(primary, await asyncio.to_thread(start, standby_of=primary))
        await eventually(lambda: asked(primary.url(), STREAMS), 1)
        if synchronous:
            await primary.set("synchronous_standby_names", "*")
        return pair

    def url(self, database: str = "jobsd") -> str:
        hosts = ",".join(str(each.server.socket_dir) for each in (self.primary, self.standby))
        return f"postgresql://postgres@/{database}?host={hosts}&port=5432,5432&target_session_attrs=read-write"

    async def promote(self) -> None:
        """Make the standby the primary of a new timeline."""
        assert await asked(self.standby.url(), "SELECT pg_promote()")

    async def stop_streaming(self) -> None:
        """From here on the standby hears nothing of what the primary commits."""
        await self.standby.set("primary_conninfo", "")
        await eventually(lambda: asked(self.primary.url(), "SELECT count(*) FROM pg_stat_replication"), 0)

    def freeze(self) -> list[int]:
        """Stop every process of the primary where it stands; its processes, for `thaw`."""
        postmaster = self.primary.server.pid
        os.kill(postmaster, signal.SIGSTOP)  # first, so that it starts no others
        pids = [postmaster, *_children(postmaster)]
        for pid in pids[1:]:
            os.kill(pid, signal.SIGSTOP)
        return pids

    def thaw(self, pids: list[int]) -> None:
        for pid in reversed(pids):
            os.kill(pid, signal.SIGCONT)


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
