"""Waiting to be woken, with a bound. Not `asyncio.wait_for`: up to Python 3.11 that can swallow a cancellation."""

import asyncio
from contextlib import suppress


async def nap(wake: asyncio.Event, at_most_s: float | None) -> None:
    """Sleep until `wake` is set or `at_most_s` seconds are over (None: no bound), and clear it."""
    with suppress(TimeoutError):
        async with asyncio.timeout(at_most_s):
            await wake.wait()
    wake.clear()
