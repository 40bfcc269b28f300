"""A registry whose jobs are known to the database."""

from pathlib import Path

import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.support.engine import registered
from tests.support.web import registry_of


@pytest.fixture
async def registry(db: Db, tmp_path: Path) -> Registry:
    loaded = registry_of(tmp_path)
    await registered(db, *loaded.jobs.values())
    return loaded
