"""The real web application on a real database, for tests of commands: each run moves when the test says so.

No scheduler and no worker run here, so nothing happens behind a test's back: it claims, reports and settles with the
engine's own parts, and waits for the command's requests through the application's `wake`.
"""

import asyncio
import os
import pwd
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Outcome
from jobsd.domain.run import ClaimedRun
from jobsd.engine.here import Here
from jobsd.registry.load import Registry, load
from jobsd.store import history, reports
from jobsd.store.db import Db
from jobsd.store.history import Ended as EndedRun
from jobsd.web.app import build
from jobsd.web.deps import Deps, Reloaded
from jobsd.web.listen import Addresses, listening
from jobsd.web.vitals import LoopAge, Vitals
from tests.support.command import Ended, Screen, in_terminal, jobsd
from tests.support.engine import node, registered, request

PATIENCE_S = 30.0


@dataclass
class Site:
    """One daemon's doors, and its node in the test's hand."""

    db: Db
    here: Here
    registry: Registry
    folder: Path
    addresses: Addresses
    asked: asyncio.Semaphore  # one for each change that was asked for
    vitals: Vitals
    deps: Deps

    @property
    def environ(self) -> Mapping[str, str]:
        return {"JOBSD_SOCKET": str(self.addresses.socket)}

    async def jobsd(self, *args: str, stdin: str = "", **env: str) -> Ended:
        """The command against this site, to its end."""
        return await asyncio.to_thread(jobsd, *args, cwd=self.folder, stdin=stdin, **{**self.environ, **env})

    @asynccontextmanager
    async def terminal(self, *args: str, columns: int = 100, **env: str) -> AsyncIterator[Screen]:
        """The command against this site, in a terminal, to be read while it runs."""
        with in_terminal(*args, cwd=self.folder, columns=columns, **{**self.environ, **env}) as screen:
            yield screen

    @asynccontextmanager
    async def listening(self, name: str) -> AsyncIterator[None]:
        """One more socket for the block: a daemon that is there, or is not."""
        async with listening(build(self.deps), "127.0.0.1", 0, self.folder / name):
            yield

    async def taken(self) -> ClaimedRun:
        """Wait for a change that a command makes, then claim the run that it asked for."""
        async with asyncio.timeout(PATIENCE_S):
            await self.asked.acquire()
        claim = await self.here.keeper.claim(request(self.here, *self.registry.jobs))
        return claim.runs[0]

    async def says(self, run: ClaimedRun, text: str, level: str = "info") -> None:
        assert await reports.message(self.db, run.id, run.fence, level, text)

    async def gets_to(self, run: ClaimedRun, fraction: float, note: str = "") -> None:
        assert await reports.progress(self.db, run.id, run.fence, fraction, note)

    async def ends(self, run: ClaimedRun, outcome: Outcome) -> None:
        """Settle it as the engine would."""
        policy, now = SettlePolicy(self.registry.jobs[run.job].retry_policy), self.here.keeper.now()
        ended = EndedRun(run, self.here.keeper.node, settle(run, policy, outcome, now), now)
        assert await history.settle(self.db, [ended], self.here.actor)


@asynccontextmanager
async def site(db: Db, jobs: str) -> AsyncIterator[Site]:
    """A site whose registry is `jobs`, TOML text."""
    with tempfile.TemporaryDirectory(prefix="jobsd-s-") as name:  # short: a socket's path has 107 characters
        folder = Path(name)
        (folder / "jobsd.toml").write_text(jobs)
        registry, asked = load(folder / "jobsd.toml", {}), asyncio.Semaphore(0)
        await registered(db, *registry.jobs.values())
        vitals = Vitals({"scheduler": LoopAge(0.1, 5.0)}, True, False, folder)
        opened: list[Site] = []
        async with node(db) as here:
            deps = Deps(
                db=db,
                registry=lambda: registry,
                vitals=lambda: opened[0].vitals,
                metrics=lambda: (b"", "text/plain"),
                reload=_no_reload,
                wake=asked.release,
                observe=lambda _event: None,
                node=here.who.name,
                started_at=datetime.now(UTC),
            )
            async with listening(build(deps), "127.0.0.1", 0, folder / "jobsd.sock") as addresses:
                opened.append(Site(db, here, registry, folder, addresses, asked, vitals, deps))
                yield opened[0]


async def _no_reload(actor: str, reason: str | None) -> Reloaded:
    raise AssertionError("a test of reload needs a real daemon")


def me() -> str:
    """The actor that the daemon sees in this user."""
    return f"unix:{pwd.getpwuid(os.getuid()).pw_name}"
