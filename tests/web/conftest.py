"""A served application for each test that asks for one, on the event loop that the daemon has."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import uvloop

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.support.engine import registered
from tests.support.web import Site, registry_of, site


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path)


@pytest.fixture
async def served(db: Db, registry: Registry) -> AsyncIterator[Site]:
    """The application, its jobs registered in the database."""
    await registered(db, *registry.jobs.values())
    async with site(db, registry) as here:
        yield here
