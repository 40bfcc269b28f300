"""Waiting to be woken, with a bound. Not `asyncio.wait_for`: up to Python 3.11 that can swallow a cancellation."""

import asyncio
import random
from contextlib import suppress


async def nap(wake: asyncio.Event, at_most_s: float | None) -> None:
    """Sleep until `wake` is set or `at_most_s` seconds are over (None: no bound), and clear it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await wake.wait()
    wake.clear()


def jittered(wait_s: float) -> float:
    """Half to one and a half times as long: nodes that lost the same server do not all come back at once."""
    return wait_s * random.uniform(0.5, 1.5)  # noqa: S311 - nothing secret
