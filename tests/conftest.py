"""Fixtures for everybody: a database of its own for each test, and servers and daemons to do as one likes with."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from jobsd.store.db import Db
from tests.support.daemon import Daemon
from tests.support.postgres import Cluster, OwnServer, SessionFolder, roomy

FOLDER = pytest.StashKey[Path]()
SESSION = pytest.StashKey[SessionFolder]()


def pytest_configure(config: pytest.Config) -> None:
    worker: dict[str, Any] | None = getattr(config, "workerinput", None)
    if worker is None:
        config.stash[SESSION] = SessionFolder()
        config.stash[FOLDER] = config.stash[SESSION].path
    else:
        config.stash[FOLDER] = Path(worker["jobsd_folder"])


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the others meet."""
    node.workerinput["jobsd_folder"] = str(node.config.stash[FOLDER])


def pytest_unconfigure(config: pytest.Config) -> None:
    session = config.stash.get(SESSION, None)
    if session:
        session.close()


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The session's server, started by the first test that needs it."""
    shared = Cluster(request.config.stash[FOLDER])
    yield shared
    shared.close()


@pytest.fixture
def database_url(cluster: Cluster) -> Iterator[str]:
    """A migrated database that no other test sees."""
    with cluster.database() as url:
        yield url


@pytest.fixture
def empty_database_url(cluster: Cluster) -> Iterator[str]:
    """A database without the schema."""
    with cluster.database(template="template1") as url:
        yield url


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Db]:
    async with Db.open(database_url) as opened:
        opened.path = None  # a test has tables of its own in it
        yield opened


@contextmanager
def _own_servers(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnServer]]:
    made: list[OwnServer] = []
    folders: list[Path] = []

    def start(standby_of: OwnServer | None = None, **settings: str) -> OwnServer:
        folders.append(Path(tempfile.mkdtemp(prefix="jobsd-own-", dir=roomy())))
        if standby_of:
            standby_of.copy(folders[-1] / "data")
        made.append(OwnServer(request.config.stash[FOLDER], folders[-1], settings))
        return made[-1]

    yield start
    for server in made:
        server.stop()
    for folder in folders:
        shutil.rmtree(folder)


@pytest.fixture
def own_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnServer]]:
    """Start private, durable servers with settings of their own, for tests that stop or kill them.

    `own_server(standby_of=another)` streams from that one.
    """
    with _own_servers(request) as start:
        yield start


@pytest.fixture(scope="module")
def module_server(request: pytest.FixtureRequest) -> Iterator[Callable[..., OwnServer]]:
    """The same for servers that all tests of a module share."""
    with _own_servers(request) as start:
        yield start


@pytest.fixture
def postgres_server(own_server: Callable[..., OwnServer]) -> OwnServer:
    """A private, durable server."""
    return own_server()


@pytest.fixture
async def daemon(database_url: str) -> AsyncIterator[Callable[..., Awaitable[Daemon]]]:
    """Start real daemons: `await daemon(JOBS, settings={"daemon": {"slots": 2}}, environ={…}, url=…, ready=True)`."""
    async with AsyncExitStack() as stack:

        async def start(jobs: str = "", *, url: str = database_url, ready: bool = True, **options: Any) -> Daemon:
            made = Daemon(url, jobs, **options)
            stack.push_async_callback(made.close)
            await made.start(ready=ready)
            return made

        yield start
