"""Servers that are there to be broken."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from tests.support.pair import Pair


@pytest.fixture
async def pair() -> AsyncIterator[Callable[..., Awaitable[Pair]]]:
    """Start a primary with a streaming standby: `await pair(synchronous=True, max_connections="20")`."""
    async with AsyncExitStack() as stack:

        async def start(*, synchronous: bool = False, **settings: str) -> Pair:
            made = await Pair.made(settings, synchronous=synchronous)
            stack.callback(made.close)
            return made

        yield start
