"""Faults, one function each: does harm to a node or to the server, heals it, and returns when.

One that measures the recovery itself returns it, in seconds; of the others it is measured from their return on.
"""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import asyncpg

from tests.faults.chaos import registry
from tests.faults.chaos.load import ENQUEUE, LONG
from tests.faults.chaos.registry import KEYS
from tests.faults.chaos.site import CONNECTIONS, LEASE_S, NO_ANSWER, Node, Site

RESCUED_S = 40.0  # nothing takes so long; past it the run has failed
AT_WORK_S = 10.0
SESSIONS = ("lock", "work", "listen", "job")
TABLES = ("run", "node", "attempt", "audit", "slot", "schedule", "claim")
LIVE = "SELECT max(id) FROM jobsd.node WHERE name = $1"
RESCUED = """
    SELECT n.state <> 'live' AND NOT EXISTS (
               SELECT FROM jobsd.run r
                WHERE r.node = n.id AND r.state = 'running'
                  AND NOT EXISTS (SELECT FROM jobsd.external e WHERE e.run = r.id AND e.fence = r.fence)) AS rescued
      FROM jobsd.node n
     WHERE n.id = $1
"""
AT_WORK = """
    SELECT n.id, n.name FROM jobsd.run r JOIN jobsd.node n ON n.id = r.node AND n.state = 'live' WHERE r.id = $1
"""
END_SESSION = """
    SELECT pg_terminate_backend(pid)
      FROM pg_stat_activity
     WHERE application_name LIKE 'jobsd ' || $1 || ' ' || $2 || '%'
"""
Injected = Awaitable[float | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """`bar_s`: within which its recovery is to be, as of 4-bars with this site's lease; None: none is set there."""

    name: str
    on_node: Callable[[Site, Node, Random], Injected] | None = None
    on_site: Callable[[Site, Random], Injected] | None = None
    often: float = 1.0
    bar_s: float | None = None


async def killed(site: Site, node: Node, random: Random) -> None:
    """SIGKILL, and started again at once."""
    async with node.turn:
        await node.daemon.kill9()
        await node.start()


async def killed_for_good(site: Site, node: Node, random: Random) -> float:
    """SIGKILL, and not started before another node has settled its runs; how long those took."""
    async with site.rescues, node.turn:
        row = (await site.fetch(LIVE, node.name))[0][0]
        at = monotonic()
        await node.daemon.kill9()
        took_s = await _rescued(site, row, at)
        await node.start()
        return took_s


async def frozen(site: Site, node: Node, random: Random) -> None:
    """SIGSTOP for less than the rescue takes: within the lease, or past it."""
    async with node.turn:
        node.daemon.signal(signal.SIGSTOP)
        await asyncio.sleep(random.choice([random.uniform(0.2, 2.0), random.uniform(2.0, 5.0)]))
        node.daemon.signal(signal.SIGCONT)


async def frozen_for_long(site: Site, random: Random) -> float | None:
    """SIGSTOP of a node with a command that would outlast its rescue, until another has settled its runs."""
    run = (
        await site.fetch(ENQUEUE, "keyed", json.dumps({"key": random.randrange(KEYS, 10**9), "steps": LONG}), 0, None)
    )[0][0]
    found = await _at_work(site, run)
    node = next((node for node in site.nodes if found and node.name == found["name"]), None)
    if node is None:
        return None
    async with site.rescues, node.turn:
        at = monotonic()
        node.daemon.signal(signal.SIGSTOP)
        took_s = await _rescued(site, found["id"], at)
        if random.random() < 0.6:  # into the second execution
            await _at_work(site, run)
            await asyncio.sleep(1)
        node.daemon.signal(signal.SIGCONT)
        return took_s


async def _at_work(site: Site, run: int) -> Any:
    """The row of the node that executes it; None when nobody takes it for a while."""
    with suppress(TimeoutError):
        async with asyncio.timeout(AT_WORK_S):
            while not (rows := await site.fetch(AT_WORK, run)):
                await asyncio.sleep(0.05)
            return rows[0]
    return None


async def _rescued(site: Site, row: int, since_s: float) -> float:
    """Seconds since then. Raises `TimeoutError` when nobody rescues it."""
    async with asyncio.timeout(RESCUED_S):
        while not (await site.fetch(RESCUED, row))[0]["rescued"]:
            await asyncio.sleep(0.05)
    return monotonic() - since_s


async def drained(site: Site, node: Node, random: Random) -> None:
    """SIGTERM, and started again. What does not end within half a minute is killed, and told."""
    async with node.turn:
        node.daemon.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(30):
                await node.daemon.process.wait()
        except TimeoutError:
            node.left.append("not ended half a minute after SIGTERM")
            node.daemon.signal(signal.SIGKILL)
        await node.daemon.exited()
        await node.start()


async def guardian_killed(site: Site, node: Node, random: Random) -> None:
    async with node.turn:  # not beside the death of its daemon: then nobody is left to end what it guarded
        if guardians := [pid for pid in _below(node.daemon.pid, 1) if _is_guardian(pid)]:
            _kill(random.choice(guardians))
            await asyncio.sleep(0.3)


async def child_killed(site: Site, node: Node, random: Random) -> None:
    if works := [pid for pid in _below(node.daemon.pid, 3) if not _is_guardian(pid)]:
        _kill(random.choice(works))


def _below(pid: int, depth: int) -> list[int]:
    """Its children and theirs, so many levels deep."""
    found: list[int] = []
    with suppress(OSError, ValueError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *(_below(child, depth - 1) if depth > 1 else ())]
    return found


def _is_guardian(pid: int) -> bool:
    with suppress(OSError):
        return b"/guardian.py\0" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


async def reloaded(site: Site, node: Node, random: Random) -> None:
    """SIGHUP with a registry that has one job more, or less."""
    node.daemon.write(registry.toml(site.log, leave_out=random.choice(["", "passing"])))
    async with node.turn:
        node.daemon.signal(signal.SIGHUP)


async def cut(site: Site, node: Node, random: Random) -> None:
    await _through(node, node.proxy.cut, random.choice([random.uniform(0.1, 1.5), random.uniform(2, 5)]))


async def stalled(site: Site, node: Node, random: Random) -> None:
    await _through(node, node.proxy.stall, random.choice([random.uniform(0.3, 2), random.uniform(2, 8)]))


async def one_way(site: Site, node: Node, random: Random) -> None:
    to_server = random.random() < 0.5
    await _through(node, lambda: node.proxy.one_way(to_server=to_server), random.uniform(0.5, 5))


async def reset(site: Site, node: Node, random: Random) -> None:
    node.proxy.reset()


async def _through(node: Node, harm: Callable[[], None], for_s: float) -> None:
    harm()
    await asyncio.sleep(for_s)
    node.proxy.heal()


async def session_ended(site: Site, node: Node, random: Random) -> None:
    """pg_terminate_backend of one kind of a node's sessions."""
    await site.fetch(END_SESSION, random.choice(SESSIONS), node.name)


async def restarted(site: Site, random: Random) -> None:
    """A fast restart of the server."""
    async with site.server_turn:
        await asyncio.to_thread(site.server.stop)
        await _start_server(site)


async def crashed(site: Site, random: Random) -> None:
    """An immediate stop, and recovery."""
    async with site.server_turn:
        os.kill(site.server.server.pid, signal.SIGQUIT)
        await asyncio.to_thread(site.server.stop)
        await _start_server(site)


async def postmaster_killed(site: Site, random: Random) -> None:
    async with site.server_turn:
        await asyncio.to_thread(site.server.kill9)
        await _start_server(site)


async def _start_server(site: Site) -> None:
    await asyncio.to_thread(site.server.start)


async def read_only(site: Site, random: Random) -> None:
    """The server takes no writes, as a standby would."""
    async with site.server_turn:
        await _set(site, "ALTER SYSTEM SET default_transaction_read_only = on")
        await asyncio.sleep(random.uniform(0.5, 4))
        await _set(site, "ALTER SYSTEM RESET default_transaction_read_only")


async def _set(site: Site, sql: str) -> None:
    await site.fetch(sql)
    await site.fetch("SELECT pg_reload_conf()")


async def slots_exhausted(site: Site, random: Random) -> None:
    """Every connection slot that there is, for a moment."""
    taken: list[asyncpg.Connection] = []
    try:
        with suppress(*NO_ANSWER):
            while len(taken) < CONNECTIONS:
                taken.append(await asyncpg.connect(site.url, timeout=5))
        with suppress(*NO_ANSWER):
            if taken:
                await taken[0].execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'jobsd work%' AND random() < 0.5"
                )
        await asyncio.sleep(random.uniform(0.5, 3))
    finally:
        for con in taken:
            con.terminate()


async def table_locked(site: Site, random: Random) -> None:
    """As by a long DDL statement."""
    with suppress(*NO_ANSWER):
        async with site.connection() as con, con.transaction():
            await con.execute(f"LOCK TABLE jobsd.{random.choice(TABLES)} IN ACCESS EXCLUSIVE MODE", timeout=10)
            await asyncio.sleep(random.uniform(0.5, 5))


RESCUE_S = LEASE_S["rescue"] + 5  # the bar is 25 s where rescue is 20 s
FAULTS = (
    Fault("daemon: SIGKILL, started again", killed, often=3, bar_s=3),
    Fault("daemon: SIGKILL, rescued by another", killed_for_good, often=1, bar_s=RESCUE_S),
    Fault("daemon: SIGSTOP, then SIGCONT", frozen, often=2),
    Fault("daemon: SIGSTOP, rescued, then SIGCONT", on_site=frozen_for_long, often=1.5, bar_s=RESCUE_S),
    Fault("daemon: SIGTERM, started again", drained, often=1),
    Fault("daemon: SIGHUP, another registry", reloaded, often=1),
    Fault("guardian: SIGKILL", guardian_killed, often=1.5),
    Fault("job's process: SIGKILL", child_killed, often=1.5),
    Fault("network: cut", cut, often=2),
    Fault("network: stalled", stalled, often=2, bar_s=RESCUE_S),
    Fault("network: one-way", one_way, often=1, bar_s=RESCUE_S),
    Fault("network: connections reset", reset, often=1),
    Fault("session ended by the server", session_ended, often=3),
    Fault("PostgreSQL: fast restart", on_site=restarted, often=1.5, bar_s=3),
    Fault("PostgreSQL: immediate restart", on_site=crashed, often=1.5, bar_s=3),
    Fault("PostgreSQL: SIGKILL of the postmaster", on_site=postmaster_killed, often=1.5, bar_s=3),
    Fault("PostgreSQL: read-only", on_site=read_only, often=1),
    Fault("PostgreSQL: no connection slots", on_site=slots_exhausted, often=1),
    Fault("PostgreSQL: a table locked", on_site=table_locked, often=1.5),
)
