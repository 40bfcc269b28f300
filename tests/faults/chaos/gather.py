"""Collects what is to be seen: while the campaign runs, which runs are over; afterwards, everything."""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from tests.faults.chaos.history import Attempt, Entry, History, Recorded, Run, Stretch, read
from tests.faults.chaos.load import Load
from tests.faults.chaos.site import Site

LOOK_S = 0.5
EMPTY_S = 60.0
OVER_SINCE = "SELECT id, state FROM jobsd.run WHERE finished_at IS NOT NULL AND id > $1 ORDER BY id"
RUNS = """
    SELECT id, job, state, fence, attempt, retries, version, slot_at, idempotency_key FROM jobsd.run ORDER BY id
"""
ATTEMPTS = "SELECT run, fence, number, outcome, stale FROM jobsd.attempt ORDER BY run, fence"
ENTRIES = "SELECT run, sequence, act FROM jobsd.audit WHERE run IS NOT NULL"
STRETCHES = "SELECT job, slot_at, to_at, count, decision, run FROM jobsd.slot"
EFFECTS = "SELECT run, fence FROM chaos.effect"
OPEN = "SELECT count(*) FROM jobsd.run WHERE state IN ('queued', 'running')"
NOW = "SELECT clock_timestamp() AS now"
REGISTERED = "SELECT max(registered_at) AS at FROM jobsd.job"


class Sampler:
    """Remembers how each run was first seen to be over."""

    def __init__(self, site: Site) -> None:
        self.seen: dict[int, str] = {}
        self._site = site
        self._all_over = 0  # every run up to here was seen to be over

    async def run(self) -> None:
        while True:
            rows = await self._site.fetch(OVER_SINCE, self._all_over)
            for row in rows:
                self.seen.setdefault(row["id"], row["state"])
            while self._all_over + 1 in self.seen:
                self._all_over += 1
            await asyncio.sleep(LOOK_S)


async def began_at(site: Site) -> datetime:
    """When every job was registered."""
    at: datetime = (await site.fetch(REGISTERED))[0]["at"]
    return at


async def gather(site: Site, load: Load, sampler: Sampler, began: datetime, unwell: Sequence[str]) -> History:
    """With all nodes up: ends the schedules, waits for the last run to be over, and looks."""
    ended = (await site.fetch(NOW))[0]["now"]
    await site.reload(scheduled=False)
    await _emptied(site)
    verdict = await _audit(site)
    orphans = [_described(pid) for pid in site.children()]
    left = [f"{node.name} {left}" for node in site.nodes for left in node.left]
    runs = await site.fetch(RUNS)
    return History(
        began_at=began,
        ended_at=ended,
        lines=read(site.log),
        runs={row["id"]: Run(*row) for row in runs},
        recorded=[Recorded(Attempt(row[0], row[1]), *row[2:]) for row in map(tuple, await site.fetch(ATTEMPTS))],
        entries=[Entry(*row) for row in await site.fetch(ENTRIES)],
        stretches=[Stretch(*row) for row in await site.fetch(STRETCHES)],
        effects=[Attempt(*row) for row in await site.fetch(EFFECTS)],
        acknowledged=[(asked.run, asked.job, asked.key) for asked in load.acknowledged],
        seen_over=sampler.seen,
        orphans=orphans,
        audit_verdict=verdict,
        unwell=[*unwell, *left],
    )


async def _emptied(site: Site) -> None:
    """Wait until no run is open; those that still are after so long will be found."""
    with suppress(TimeoutError):
        async with asyncio.timeout(EMPTY_S):
            while (await site.fetch(OPEN))[0][0]:
                await asyncio.sleep(0.1)


async def _audit(site: Site) -> str:
    """`jobsd audit verify`, as a person would; what is wrong, if anything."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "jobsd", "--socket", str(site.nodes[0].daemon.socket), "audit", "verify"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return "" if process.returncode == 0 else said.decode()


def _described(pid: int) -> str:
    with suppress(OSError):
        return f"{pid}: " + Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return f"{pid}: just gone"
