"""A pack that somebody else installed: a running daemon serves it without knowing it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from jobsd.store.db import Db
from tests.support.command import jobsd
from tests.support.daemon import Daemon
from tests.support.pack import ROOT, build, install

Start = Callable[..., Awaitable[Daemon]]


@pytest.mark.req("B11")
async def test_an_installed_pack_is_served_and_its_acts_are_audited(daemon: Start, db: Db, tmp_path: Path) -> None:
    await build(db)
    install(tmp_path, "shelf", "tests.support.pack:SHELF")
    running = await daemon(environ={"PYTHONPATH": f"{tmp_path}:{ROOT}"})
    args = ("--socket", str(running.socket))

    _, listed = await running.request("GET", "/api/v1/packs")
    lent = jobsd("act", "shelf.lend", "--param", "book=2", "--param", "to=bob", "--reason", "asked nicely", *args)
    away = jobsd("view", "shelf.books", "--filter", "here=false", *args)

    assert [pack["name"] for pack in listed["items"]] == ["analytics", "shelf"]
    assert (lent.code, lent.err) == (0, "")
    assert away.out.splitlines()[1].split("\t")[:3] == ["2", "Bread", "bob"]
    assert await db.fetchval("SELECT reason FROM jobsd.audit_log WHERE act = 'shelf.lend'") == "asked nicely"


@pytest.mark.req("C8")
async def test_a_pack_that_cannot_be_imported_ends_the_start(daemon: Start, tmp_path: Path) -> None:
    install(tmp_path, "torn", "nowhere_at_all:PACK")

    torn = await daemon(environ={"PYTHONPATH": f"{tmp_path}:{ROOT}"}, ready=False)

    assert await torn.exited() == 78
    assert any('pack "torn" (nowhere_at_all:PACK) cannot be imported' in line for line in torn.said)
