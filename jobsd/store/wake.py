"""Waking each other up: NOTIFY after a commit, LISTEN on a connection of its own. Polling goes on underneath."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from jobsd.store.db import Db, Session, Unavailable, bounded, connect
from jobsd.store.locks import LIMITS

NOTIFY = "SELECT pg_notify($1, $2)"
PING = "SELECT 1"
PING_S = 10.0
ANSWER_S = 5.0
RETRY_S = 2.0


def channel(schema: str) -> str:
    return f"{schema}_wake"


async def notify(db: Db, what: str) -> None:
    """Tell every node: "run" (something was queued), "ended:JOB" (a run of it is over), "job" (a switch was turned),
    "force" (a running run is to be ended)."""
    await db.execute(NOTIFY, channel(db.schema), what)


class Listener:
    """Calls `heard(payload)` for each notification, `heard("")` whenever some may have been missed.

    `lost(why)` is called once for each connection that was lost.
    """

    def __init__(
        self,
        url: str,
        schema: str,
        node: str,
        heard: Callable[[str], None],
        lost: Callable[[str], None] = lambda _why: None,
    ) -> None:
        self._url = url
        self._schema = schema
        self._application_name = f"jobsd listen {node}"
        self._heard = heard
        self._lost = lost
        self.on_round: Callable[[], None] = lambda: None  # at each try, and with each answer of the server
        self.connected = False

    async def run(self) -> None:
        """Listen for ever; a broken connection is replaced."""
        while True:
            self.on_round()
            try:
                await self._listen()
            except Unavailable as gone:
                self._tell(gone)
                await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))  # noqa: S311 - not all nodes at once

    def _tell(self, gone: Unavailable) -> None:
        """Once for each loss, however many tries the next connection takes."""
        if self.connected:
            self._lost(str(gone))
        self.connected = False

    async def _listen(self) -> None:
        settings = {k: v for k, v in LIMITS.items() if k != "plan_cache_mode"}
        con = await connect(self._url, application_name=self._application_name, settings=settings, pooled=False)
        self.connected = True
        closed = asyncio.Event()
        con.add_termination_listener(lambda _con: closed.set())
        try:
            await bounded(con, ANSWER_S, con.add_listener, channel(self._schema), self._on_notification)
            self._heard("")
            session = Session(con, self._schema, PING_S)
            while True:
                self.on_round()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PING_S):
                        await closed.wait()
                if con.superseded:
                    raise Unavailable(ConnectionError("a former primary: nobody notifies there any more"))
                await session.fetchval(PING, timeout=ANSWER_S)
        finally:
            con.terminate()

    def _on_notification(self, _con: Any, _pid: int, _channel: str, payload: Any) -> None:
        self._heard(str(payload))
