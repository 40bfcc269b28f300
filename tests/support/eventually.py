"""Waiting for what nobody announces: a state of the database, of the system."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 30.0
LOOK_S = 0.02


async def eventually(look: Callable[[], Awaitable[T]], wanted: T, patience_s: float = PATIENCE_S) -> None:
    """Look until it is so; fails with what it was at last."""
    seen: T | None = None
    try:
        async with asyncio.timeout(patience_s):
            while (seen := await look()) != wanted:
                await asyncio.sleep(LOOK_S)
    except TimeoutError:
        raise AssertionError(f"wanted {wanted!r}, at last it was {seen!r}") from None
