"""The lock session's proof."""

import asyncio

import pytest

from jobsd.store.db import Db
from jobsd.store.locks import open_lock_connection


@pytest.mark.req("P6", "P3")
async def test_nodes_prove_their_lock_sessions_at_the_same_moment(db: Db) -> None:
    """As all of them do when the server is back."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(open_lock_connection(db.url, db.schema, "jobsd lock test", 30.0)) for _ in range(20)]
    locks = [task.result() for task in tasks]
    for lock in locks:
        lock.session.con.terminate()

    assert len({lock.backend_pid for lock in locks}) == 20
