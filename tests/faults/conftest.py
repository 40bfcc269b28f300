"""Servers that are there to be broken."""

from collections.abc import Awaitable, Callable

import pytest

from tests.support.pair import Pair
from tests.support.postgres import OwnServer


@pytest.fixture
def pair(own_server: Callable[..., OwnServer]) -> Callable[..., Awaitable[Pair]]:
    """Start a primary with a streaming standby: `await pair(synchronous=True)`."""

    async def start(*, synchronous: bool = False) -> Pair:
        return await Pair.made(own_server, synchronous=synchronous)

    return start
