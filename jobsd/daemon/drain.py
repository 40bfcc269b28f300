"""The way out: nothing new starts, runs finish while there is time, what then still runs is ended. All is bounded.

What becomes of the process when something does not end is `serve`'s to decide.
"""

import asyncio
from datetime import timedelta

from jobsd.daemon.node import Node
from jobsd.daemon.signals import Stop
from jobsd.domain.events import Noted
from jobsd.domain.outcome import Interrupted
from jobsd.engine.worker import REAP_S
from jobsd.observe.systemd import Systemd

WRITE_S = 5.0  # for the settlements of what was ended
MARGIN = timedelta(seconds=15)  # for what comes after: closing listeners and sessions


async def drain(node: Node, stop: Stop, systemd: Systemd) -> bool:
    """Let runs finish, asking systemd for the time that this takes; a second signal cuts it short.

    False when something does not end, or its end cannot be written.
    """
    limit = node.registry.settings.daemon.drain
    names = ", ".join(f"{run.job} ({run.id})" for run, _ in node.workers.running)
    node.parts.observe(Noted("draining", "info", {"runs": names, "limit_s": limit.total_seconds()}))
    systemd.stopping(f"draining: {names}" if names else "stopping")
    systemd.extend_timeout(limit + MARGIN)
    await node.rest()
    if await _finished(node, stop, limit.total_seconds()):
        return True
    ending_s = _ending_s(node)
    systemd.extend_timeout(timedelta(seconds=ending_s) + MARGIN)
    return await _ended(node, ending_s)


async def _finished(node: Node, stop: Stop, limit_s: float) -> bool:
    idle = asyncio.ensure_future(node.workers.idle())
    await asyncio.wait({idle, stop.cut}, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    return idle.done() or not idle.cancel()


async def _ended(node: Node, limit_s: float) -> bool:
    node.workers.stop(Interrupted("the daemon is shutting down"))
    try:
        async with asyncio.timeout(limit_s):
            await node.workers.idle()
    except TimeoutError:
        return False
    return True


def _ending_s(node: Node) -> float:
    """How long it takes to end what runs now, if it can be ended at all."""
    jobs = [node.registry.jobs.get(run.job) for run, _ in node.workers.running]
    longest = max((job.grace for job in jobs if job is not None), default=timedelta(0))
    return longest.total_seconds() + REAP_S + WRITE_S
