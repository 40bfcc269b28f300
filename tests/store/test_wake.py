"""Waking each other up goes on, whatever happens to the connection and when."""

import asyncio
from typing import Any

import asyncpg
import pytest

from jobsd.store import db as database
from jobsd.store import wake
from jobsd.store.db import Db


@pytest.mark.req("P6", "P11")
async def test_a_connection_that_is_lost_before_it_listens_is_replaced(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[asyncpg.Connection] = []

    async def lost_at_once(*args: Any, **kwargs: Any) -> asyncpg.Connection:
        opened.append(await database.connect(*args, **kwargs))
        if len(opened) == 1:
            opened[0].terminate()
        return opened[-1]

    monkeypatch.setattr(wake, "connect", lost_at_once)
    monkeypatch.setattr(wake, "RETRY_S", 0.0)
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = wake.Listener(db.url, db.schema, "n", heard.put_nowait)
    listening = asyncio.create_task(listener.run())

    assert await asyncio.wait_for(heard.get(), 10) == ""  # some may have been missed
    await wake.notify(db, "run")
    assert await asyncio.wait_for(heard.get(), 10) == "run"

    assert len(opened) == 2
    listening.cancel()
    await asyncio.wait({listening})
