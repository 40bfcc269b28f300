"""The real web application on real sockets: TCP on any free port, and a Unix socket."""

import io
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from yarl import URL

from jobsd.domain.events import Event
from jobsd.registry.load import Registry, load
from jobsd.store.db import Db
from jobsd.web.app import build
from jobsd.web.deps import Deps, Reloaded
from jobsd.web.listen import Addresses, listening
from jobsd.web.vitals import LoopAge, Vitals

JOBS = """
[jobs.nightly]
description = "Yesterday's figures"
command = ["true"]
schedule = { cron = "30 2 * * *", timezone = "Europe/Berlin" }
params = { region = "eu" }

[jobs.ping]
command = ["true"]
schedule = { every = "10s" }

[jobs.by-hand]
handler = "tests.support.handlers:import_course"
lock_key = "course:{course_id}"
params = { limit = 10 }
"""


def registry_of(folder: Path, jobs: str = JOBS, **environ: str) -> Registry:
    """A registry from TOML text."""
    file = folder / "jobsd.toml"
    file.write_text(jobs)
    return load(file, environ)


@dataclass
class Site:
    """A served application, and what a daemon would have seen of it."""

    addresses: Addresses
    deps: Deps
    events: list[Event] = field(default_factory=list)
    woken: list[None] = field(default_factory=list)
    reloads: list[tuple[str, str | None]] = field(default_factory=list)

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        tcp: bool = False,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, Any, Mapping[str, str]]:
        """One request; status, decoded JSON (else bytes), headers. `data` goes as it is, as JSON by its type."""
        raw = orjson.dumps(body) if body is not None else data
        more = {**({"Content-Type": "application/json"} if raw is not None else {}), **(headers or {})}
        connector = None if tcp else aiohttp.UnixConnector(str(self.addresses.socket))
        target = URL((self.addresses.url if tcp else "http://localhost") + path, encoded=True)
        sent = None if raw is None else io.BytesIO(raw)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.request(method, target, data=sent, headers=more) as response,
        ):
            answer = await response.read()
            decoded = orjson.loads(answer) if answer and response.content_type.endswith("json") else answer
            return response.status, decoded, response.headers


def well(state_dir: Path) -> Vitals:
    return Vitals({"claimer": LoopAge(0.1, 5), "scheduler": LoopAge(0.2, 5)}, True, False, state_dir)


@asynccontextmanager
async def site(
    db: Db, registry: Registry, vitals: Callable[[], Vitals] | None = None, **changes: Any
) -> AsyncIterator[Site]:
    """Serve until the end of the block."""
    with tempfile.TemporaryDirectory(prefix="jobsd-w-") as folder:  # short: a socket's path has 107 characters
        events: list[Event] = []
        woken: list[None] = []
        reloads: list[tuple[str, str | None]] = []

        async def reload(actor: str, reason: str | None) -> Reloaded:
            reloads.append((actor, reason))
            return Reloaded(plan="+0 added ~0 changed -0 removed")

        deps = Deps(
            db=db,
            registry=lambda: registry,
            vitals=vitals or (lambda: well(Path(folder))),
            metrics=lambda: (b"jobsd_running 0\n", "text/plain; version=0.0.4; charset=utf-8"),
            reload=reload,
            wake=lambda: woken.append(None),
            observe=events.append,
            node="testnode",
            started_at=datetime.now(UTC),
        )
        deps = replace(deps, **changes)
        async with listening(build(deps), "127.0.0.1", 0, Path(folder) / "jobsd.sock") as addresses:
            yield Site(addresses, deps, events, woken, reloads)
