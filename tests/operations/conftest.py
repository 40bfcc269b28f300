"""A registry whose jobs are known to the database, and a desk where other programs report."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.operations.outside import Office, open_office
from tests.support.engine import registered
from tests.support.web import registry_of


@pytest.fixture
async def registry(db: Db, tmp_path: Path) -> Registry:
    loaded = registry_of(tmp_path)
    await registered(db, *loaded.jobs.values())
    return loaded


@pytest.fixture
async def office(db: Db, tmp_path: Path) -> AsyncIterator[Office]:
    async with open_office(db, tmp_path) as opened:
        yield opened
