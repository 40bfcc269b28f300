"""`jobsd audit`, against the real API."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from jobsd.store import seal
from jobsd.store.db import Db
from tests.support.command import Ended, jobsd
from tests.support.engine import enqueued
from tests.support.settled import settled
from tests.support.site import Site, me, site

JOBS = """
[jobs.import]
command = ["true"]
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def sealed(here: Site, count: int = 3) -> None:
    await enqueued(here.db, "import", count=count)
    await settled(here.db)
    assert isinstance(await seal.seal(here.db, "node:one", 1000), seal.Sealed)


async def forged(here: Site) -> None:
    """As the owner with the triggers off."""
    con = await asyncpg.connect(here.db.url)
    await con.execute("ALTER TABLE jobsd.audit DISABLE TRIGGER USER; UPDATE jobsd.audit SET actor = 'x' WHERE run = 2")
    await con.close()


@pytest.mark.req("B9", "A7")
async def test_list_tells_who_did_what_and_why(here: Site) -> None:
    await here.jobsd("trigger", "import", "--reason", "late data")
    await here.jobsd("job", "disable", "import", "--reason", "maintenance")

    every = await here.jobsd("audit", "list")
    mine = await here.jobsd("audit", "list", "--actor", me(), "--act", "disabled", "-o", "jsonl")

    lines = [line.split("\t") for line in every.out.splitlines()]
    assert lines[0] == ["at", "act", "actor", "job", "run", "reason", "detail"]
    assert [line[1:6] for line in lines[1:]] == [
        ["disabled", me(), "import", "", "maintenance"],
        ["queued", me(), "import", "1", "late data"],
    ]
    assert [json.loads(line)["reason"] for line in mine.out.splitlines()] == ["maintenance"]


@pytest.mark.req("P10")
async def test_verify_tells_what_was_checked_and_the_latest_seal(here: Site) -> None:
    await sealed(here)
    await sealed(here)
    await enqueued(here.db, "import")

    ended = await here.jobsd("audit", "verify", "-o", "json")

    head = await seal.head(here.db)
    assert head is not None
    found = json.loads(ended.out)
    assert (ended.code, found["seals"], found["entries"], found["unsealed"]) == (0, 2, 6, 1)
    assert (found["head"]["number"], found["head"]["hash"]) == (2, head.hash)


@pytest.mark.req("P10")
async def test_verify_fails_with_the_first_broken_link(here: Site) -> None:
    await sealed(here, 1)
    await sealed(here)
    await sealed(here)
    await forged(here)

    ended = await here.jobsd("audit", "verify")

    assert ended.code == 1
    assert "error[E0524]: the audit's chain is broken at seal 2: its 3 entries, or the seal itself, do not" in ended.err


@pytest.mark.req("P10")
async def test_an_export_is_verified_without_any_daemon_and_so_is_what_was_changed_in_it(here: Site) -> None:
    await sealed(here)
    await sealed(here)
    exported = await here.jobsd("audit", "export")
    good, lines = here.folder / "good.jsonl", exported.out.splitlines()
    good.write_text(exported.out)
    changed, shorter = here.folder / "changed.jsonl", here.folder / "shorter.jsonl"
    changed.write_text("\n".join([*lines[:5], lines[5].replace('"test"', '"mallory"'), *lines[6:]]))
    shorter.write_text("\n".join(lines[:1] + lines[2:]))

    fine = await offline("--file", good, "-o", "json")
    other = await offline("--file", changed)
    less = await offline("--file", shorter)
    none = await offline("--file", here.folder / "jobsd.toml")

    assert [json.loads(line)["record"] for line in lines] == ["entry"] * 3 + ["seal"] + ["entry"] * 3 + ["seal"]
    assert (fine.code, json.loads(fine.out)["seals"], json.loads(fine.out)["entries"]) == (0, 2, 6)
    assert (other.code, less.code, none.code) == (1, 1, 1)
    assert "broken at line 6: this entry of 2" in other.err
    assert "broken at line 3: seal 1: 3 entries were sealed, 2 are there: 1 was removed" in less.err
    assert "broken at line 1: it is no line of an export" in none.err


async def offline(*args: str | Path) -> Ended:
    """The command where no daemon can be found."""
    return await asyncio.to_thread(jobsd, "audit", "verify", *map(str, args), JOBSD_SOCKET="/nowhere/jobsd.sock")


async def test_verify_reads_well_on_a_terminal(here: Site) -> None:
    await sealed(here)

    async with here.terminal("audit", "verify") as screen:
        code = await screen.ended()

    assert code == 0
    assert "latest seal" in screen.shown
    assert "not sealed yet" in screen.shown
