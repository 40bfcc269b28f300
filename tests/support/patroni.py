"""A Patroni cluster on loopback: etcd, and two nodes with a PostgreSQL of Debian's each, to switch over and to kill.

None of it may be root: a root that tests runs it as `nobody`. Its shortest legal times: a lost leader's place is free
after `TTL_S`.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tests.support.eventually import eventually
from tests.support.postgres import asked

BINARIES = Path("/usr/lib/postgresql/15/bin")
MISSING = [name for name in ("patroni", "etcd") if shutil.which(name) is None]
TTL_S = 20
START_S = 90.0
DOORS = ("local all all", "host all all 127.0.0.1/32", "host replication all 127.0.0.1/32")
IN_STEP = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'sync'"


def available() -> bool:
    return not MISSING and BINARIES.exists()


class Member:
    """One node: Patroni, which runs PostgreSQL."""

    def __init__(self, cluster: "Patroni", name: str) -> None:
        self.name = name
        self.port, self.api = free_port(), free_port()
        self.folder = cluster.folder / name
        self.process: subprocess.Popen[bytes] | None = None
        self._cluster = cluster

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "patroni.json"  # which is YAML too
        config.write_text(json.dumps(self._config()))
        own(self.folder)
        self.process = self._cluster.run([shutil.which("patroni"), config], self.folder / "patroni.log")

    def kill9(self) -> None:
        """Its host is gone: Patroni first, so that it starts no other, then PostgreSQL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(int((self.folder / "data" / "postmaster.pid").read_text().split("\n", 1)[0]), signal.SIGKILL)

    def _config(self) -> dict[str, Any]:
        here = f"127.0.0.1:{self.port}"
        times = {"ttl": TTL_S, "loop_wait": 1, "retry_timeout": 3, "synchronous_mode": True}
        people = {"superuser": "postgres", "replication": "replicator", "rewind": "rewinder"}
        parameters = {"unix_socket_directories": str(self.folder), "fsync": "off", "shared_buffers": "16MB"}
        return {
            "scope": "jobsd",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.api}", "connect_address": f"127.0.0.1:{self.api}"},
            "etcd3": {"hosts": [f"127.0.0.1:{self._cluster.etcd}"]},
            "bootstrap": {"dcs": times, "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "no-sync"]},
            "postgresql": {
                "listen": here,
                "connect_address": here,
                "data_dir": str(self.folder / "data"),
                "bin_dir": str(BINARIES),
                "pgpass": str(self.folder / "pgpass"),
                "authentication": {role: {"username": name, "password": "x"} for role, name in people.items()},
                "pg_hba": [f"{kind} trust" for kind in DOORS],
                "parameters": parameters,
            },
        }


class Patroni:
    """The cluster. `url` names both nodes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.etcd, self._peer = free_port(), free_port()
        self.members = [Member(self, name) for name in ("a", "b")]
        self._processes: list[subprocess.Popen[bytes]] = []

    def url(self, database: str) -> str:
        hosts = ",".join(f"127.0.0.1:{member.port}" for member in self.members)
        return f"postgresql://postgres@{hosts}/{database}?target_session_attrs=read-write"

    async def start(self) -> None:
        """Until the second node streams: Patroni calls it running some seconds before."""
        at, peer = f"http://127.0.0.1:{self.etcd}", f"http://127.0.0.1:{self._peer}"
        places = ["--data-dir", self.folder / "etcd", "--initial-cluster", f"default={peer}", "--unsafe-no-fsync"]
        listen = ["--listen-client-urls", at, "--advertise-client-urls", at]
        peers = ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        self.run([shutil.which("etcd"), *places, *listen, *peers], self.folder / "etcd.log")
        for member in self.members:
            member.start()
        await self.in_step()

    async def in_step(self) -> None:
        """Wait until there is a leader whose standby streams, and may by Patroni's own word take its place."""

        async def counted() -> tuple[int, int]:
            streams = [await told(member, IN_STEP) for member in self.members]
            return sum(int(each) for each in streams if each), await self._successors()

        await eventually(counted, (1, 1), START_S)

    async def _successors(self) -> int:
        """How many members Patroni calls synchronous: it does so some seconds after PostgreSQL."""
        for member in self.members:
            try:
                async with (
                    aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(3)) as session,
                    session.get(f"http://127.0.0.1:{member.api}/cluster") as answer,
                ):
                    return [each["role"] for each in (await answer.json())["members"]].count("sync_standby")
            except (aiohttp.ClientError, TimeoutError, KeyError):
                continue
        return 0

    async def leader(self) -> Member:
        for member in self.members:
            if await told(member, "SELECT pg_is_in_recovery()") is False:
                return member
        raise AssertionError("no node is the leader")

    async def switch_over(self) -> Member:
        """As an operator does, over the leader's API; the new leader."""
        old = await self.leader()
        (new,) = (member for member in self.members if member is not old)
        body = {"leader": old.name, "candidate": new.name}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{old.api}/switchover", json=body) as answer,
        ):
            assert answer.status == 200, await answer.text()
        return new

    def run(self, argv: list[Any], log: Path) -> "subprocess.Popen[bytes]":
        as_nobody: dict[str, Any] = {"user": "nobody", "group": "nogroup", "extra_groups": []} if root() else {}
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LC_ALL": "C"}
        with log.open("ab") as out:
            started = subprocess.Popen(
                [str(each) for each in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environ,
                cwd=self.folder,
                **as_nobody,
            )
        self._processes.append(started)
        return started

    def close(self) -> None:
        for member in self.members:
            member.kill9()
        for process in self._processes:
            process.kill()
            process.wait()


@asynccontextmanager
async def patroni() -> AsyncIterator[Patroni]:
    async with AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="jobsd-patroni-", ignore_cleanup_errors=True))
        )
        own(folder)
        cluster = Patroni(folder)
        stack.callback(cluster.close)
        await cluster.start()
        yield cluster


def root() -> bool:
    return os.geteuid() == 0


def own(folder: Path) -> None:
    """Give it to whom the cluster runs as."""
    if root():
        for path in (folder, *folder.rglob("*")):
            shutil.chown(path, "nobody", "nogroup")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


async def told(member: Member, question: str) -> Any:
    """The answer, or None while that server does not answer."""
    try:
        async with asyncio.timeout(3):
            return await asked(member.url(), question)
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
        return None
