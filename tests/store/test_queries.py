"""Every query of `store` is one that PostgreSQL takes, on the schema as it is migrated."""

import re

import pytest

from jobsd.store.db import Db
from jobsd.store.queries import queries

NOT_PREPARED = ("migrate.BOOTSTRAP",)  # runs before there is a schema, with that schema's name put in


@pytest.mark.parametrize("name", [name for name in queries() if name not in NOT_PREPARED])
async def test_postgresql_prepares_it(db: Db, name: str) -> None:
    async with db.session() as session:
        await session.con.prepare(queries()[name])


def test_no_two_queries_are_the_same() -> None:
    texts = [re.sub(r"\s+", " ", text) for text in queries().values()]

    assert len(set(texts)) == len(texts)
