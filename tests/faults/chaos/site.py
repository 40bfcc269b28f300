"""Three daemons with state directories of their own, each with a way of its own to one durable server."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

from tests.faults.chaos import registry
from tests.faults.chaos.proxy import Proxy
from tests.support.daemon import ROOT, Daemon
from tests.support.postgres import OwnServer

NAMES = ("red", "green", "blue")
LEASE_S = {"beat": 0.3, "deadline": 1.0, "adopt": 2.5, "lease": 3.0, "kill": 1.0, "rescue": 6.0}
SETTINGS: dict[str, Mapping[str, object]] = {
    "lease": {name: f"{round(value * 1000)}ms" for name, value in LEASE_S.items()},
    "daemon": {"drain": "3s", "slots": 8, "stale_sweep": "2s"},
    "database": {"statement_timeout": "4s"},
    "log": {"level": "info"},
    "http": {"rate": 100_000},
}
SABOTAGE = Path(__file__).with_name("sabotage")
CONNECTIONS = 60
START_S = 120.0  # on a machine that has much else to do
LOST = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError)  # the server
NO_ANSWER = (*LOST, aiohttp.ClientError)  # of either
UNSETTLED = """
    SELECT count(*)
      FROM jobsd.run r
      JOIN jobsd.node n ON n.id = r.node
     WHERE r.state = 'running' AND n.state <> 'live'
       AND NOT EXISTS (SELECT FROM jobsd.external e WHERE e.run = r.id AND e.fence = r.fence)
"""


class Node:
    """A daemon and its proxy. Who holds `turn` may end, stop or start it."""

    def __init__(self, name: str, daemon: Daemon, proxy: Proxy) -> None:
        self.name = name
        self.daemon = daemon
        self.proxy = proxy
        self.turn = asyncio.Lock()
        self.left: list[str] = []  # ends of the process that nobody asked for
        self.closing = False

    async def start(self) -> None:
        """Until it runs: a start that fails, as while the server is away, is made again, as systemd does."""
        while True:
            await self.daemon.start(ready=False)
            if await self._got_ready():
                return
            if self.daemon.process.returncode is None:
                self.left.append(f"not ready {START_S:g} s after its start")
                self.daemon.signal(signal.SIGKILL)
            await self.daemon.exited()

    async def _got_ready(self) -> bool:
        """Whether it is in time; not when it has ended."""
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while self.daemon.process.returncode is None:
                    if ("READY", "1") in self.daemon.notes:
                        return True
                    await asyncio.sleep(0.02)
        return False

    async def keep_up(self) -> None:
        """Start it again whenever it ends by itself, and remember how it did."""
        while True:
            await self.daemon.process.wait()
            async with self.turn:
                if self.daemon.process.returncode is not None and not self.closing:
                    code = await self.daemon.exited()
                    self.left.append(f"status {code}: {self.daemon.log_end(3)}")
                    await self.start()

    async def ask(
        self, method: str, path: str, body: object = None, key: str | None = None, limit_s: float = 3.0
    ) -> tuple[int, Any]:
        """Its API's status and answer. Raises `OSError`, `TimeoutError` or `aiohttp.ClientError` for none."""
        headers = {"Idempotency-Key": key} if key else {}
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.daemon.socket)), timeout=aiohttp.ClientTimeout(limit_s)
            ) as session,
            session.request(method, f"http://jobsd{path}", json=body, headers=headers) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    async def is_ready(self) -> bool:
        try:
            return (await self.ask("GET", "/readyz", limit_s=1.0))[0] == 200
        except NO_ANSWER:
            return False


class Site:
    """The server and its nodes. `log` is where runs tell what they do."""

    def __init__(self, folder: Path, server: OwnServer) -> None:
        self.folder = folder
        self.server = server
        self.log = folder / "effects"
        self.nodes: list[Node] = []
        self.rescues = asyncio.Semaphore(len(NAMES) - 1)  # one node must be left that can
        self.server_turn = asyncio.Lock()  # who holds it may stop and start the server

    @property
    def url(self) -> str:
        """The server itself, past all proxies."""
        return self.server.url("jobsd")

    async def reload(self, *, scheduled: bool = True) -> None:
        """Have every node read the registry with all jobs."""
        for node in self.nodes:
            node.daemon.write(registry.toml(self.log, scheduled=scheduled))
            async with node.turn:
                node.daemon.signal(signal.SIGHUP)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection of our own. Raises what the driver raises."""
        con = await asyncpg.connect(self.url, timeout=5, server_settings={"default_transaction_read_only": "off"})
        try:
            yield con
        finally:
            con.terminate()

    async def fetch(self, sql: str, *args: object) -> list[Any]:
        """Ask the server, again and again while it is away."""
        while True:
            with suppress(*LOST):
                async with self.connection() as con:
                    return list(await con.fetch(sql, *args, timeout=10))
            await asyncio.sleep(0.05)

    async def is_well(self) -> bool:
        """Every node gets work done, and no run is left with a dead one."""
        if not all(await asyncio.gather(*(node.is_ready() for node in self.nodes))):
            return False
        return int((await self.fetch(UNSETTLED))[0][0]) == 0

    async def well(self, patience_s: float) -> bool:
        """Wait until it is; False when it is not in time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not await self.is_well():
                    await asyncio.sleep(0.05)
                return True
        return False

    def children(self) -> list[int]:
        """Processes that stand in a node's folder and are no daemon: guardians and jobs, however deep."""
        daemons = {node.daemon.pid for node in self.nodes}
        folders = tuple(str(node.daemon.folder) for node in self.nodes)
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if str((path / "cwd").readlink()).startswith(folders) and int(path.name) not in daemons:
                    found.append(int(path.name))
        return found


@asynccontextmanager
async def site(folder: Path, sabotage: str = "") -> AsyncIterator[Site]:
    """Everything up, and down again at the end."""
    async with AsyncExitStack() as stack:
        (folder / "first").mkdir()
        settings = {"max_connections": str(CONNECTIONS)}
        server = await asyncio.to_thread(OwnServer, folder / "first", folder / "postgres", settings)
        here = Site(folder, server)
        stack.callback(lambda: here.server.stop())
        await server.database()
        async with here.connection() as con:
            await con.execute(registry.SETUP)
            if sabotage == "no-lock":
                await con.execute("DROP INDEX jobsd.one_running_run_per_lock_key")
        for name in NAMES:
            proxy = await Proxy(f"{server.server.socket_dir}/.s.PGSQL.5432").open()
            stack.push_async_callback(proxy.close)
            here.nodes.append(Node(name, _daemon(name, proxy, here.log, sabotage), proxy))
            stack.push_async_callback(here.nodes[-1].daemon.close)
        await asyncio.gather(*(node.start() for node in here.nodes))
        keepers = [asyncio.create_task(node.keep_up()) for node in here.nodes]
        try:
            yield here
        finally:
            for node, keeper in zip(here.nodes, keepers, strict=True):
                node.closing = True
                keeper.cancel()
            await asyncio.gather(*keepers, return_exceptions=True)
            for node in here.nodes:
                (folder / f"{node.name}.log").write_text(node.daemon.log_end(1_000_000))
            for pid in here.children():  # none, unless a promise was broken
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _daemon(name: str, proxy: Proxy, log: Path, sabotage: str) -> Daemon:
    environ = {"CHAOS_SABOTAGE": sabotage, "PYTHONPATH": f"{SABOTAGE}:{ROOT}"} if sabotage else {}
    settings = {**SETTINGS, "daemon": {**SETTINGS["daemon"], "name": name}}
    url = f"postgresql://postgres@127.0.0.1:{proxy.port}/jobsd"
    return Daemon(url, registry.toml(log), settings=settings, environ=environ)
