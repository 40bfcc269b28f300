"""The duty that seals the audit and reads its chain again."""

import asyncpg
import pytest

from jobsd.domain.events import Event, Noted
from jobsd.engine import sealer
from jobsd.engine.here import Here
from jobsd.engine.sealer import Sealer
from jobsd.store import jobs
from jobsd.store.db import Db
from tests.support.engine import node
from tests.support.settled import settled


class Seen(list[Event]):
    """What was observed, and a sealer's node that observes into it."""

    def here(self, here: Here) -> Here:
        return Here(here.db, here.keeper, here.pulse, self.append, here.who)

    def noted(self, name: str) -> list[dict[str, object]]:
        return [event.fields for event in self if isinstance(event, Noted) and event.event == name]


async def noted(db: Db, count: int = 3) -> None:
    for _ in range(count):
        await jobs.audit(db, "noted", "unix:alice")
    await settled(db)


async def forge(db: Db, table: str, statement: str) -> None:
    """As the owner with the triggers off."""
    con = await asyncpg.connect(db.url)
    await con.execute(f"ALTER TABLE jobsd.{table} DISABLE TRIGGER USER; {statement}")
    await con.execute(f"ALTER TABLE jobsd.{table} ENABLE TRIGGER USER")
    await con.close()


async def alerts(db: Db) -> list[str]:
    return [row["summary"] for row in await db.fetch("SELECT summary FROM jobsd.alert WHERE type = 'AUDIT_BROKEN'")]


@pytest.mark.req("P10", "A7")
async def test_each_round_seals_what_is_new_and_the_log_keeps_its_hash(db: Db) -> None:
    seen = Seen()
    async with node(db) as here:
        duty = Sealer(seen.here(here))
        await noted(db, 3)
        await duty.round()
        await duty.round()
        await noted(db, 2)
        await duty.round()

    seals = await db.fetch(
        "SELECT number, entries, sealer, encode(hash, 'hex') AS hash FROM jobsd.audit_seal ORDER BY 1"
    )
    assert [(row["number"], row["entries"], row["sealer"]) for row in seals] == [(1, 3, "node:one"), (2, 2, "node:one")]
    assert [facts["hash"] for facts in seen.noted("audit_sealed")] == [row["hash"] for row in seals]
    assert await alerts(db) == []


@pytest.mark.req("P10")
async def test_a_backlog_is_sealed_in_one_round(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealer, "MOST", 2)
    async with node(db) as here:
        await noted(db, 9)
        await Sealer(Seen().here(here)).round()

    assert await db.fetchval("SELECT sum(entries)::integer FROM jobsd.audit_seal") == 9
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit_seal") >= 4


@pytest.mark.req("P10")
async def test_a_changed_entry_raises_one_alert_at_the_next_pass_through_the_chain(db: Db) -> None:
    seen, woken = Seen(), list[None]()
    async with node(db) as here:
        await noted(db)
        await Sealer(seen.here(here)).round()
        await noted(db)
        await forge(db, "audit", "UPDATE jobsd.audit SET actor = 'unix:mallory' WHERE sequence = 2")
        duty = Sealer(seen.here(here))
        duty.on_alert = lambda: woken.append(None)
        await duty.round()
        await duty.round()

    (summary,) = await alerts(db)
    assert summary.startswith("the audit's chain is broken at seal 1: its 3 entries, or the seal itself, do not read")
    assert len(woken) == len(seen.noted("chain_broken")) == 1


@pytest.mark.req("P10")
@pytest.mark.parametrize(
    ("forgery", "what"),
    [
        ("DELETE FROM jobsd.audit_seal WHERE number = 2", "is gone"),
        ("UPDATE jobsd.audit_seal SET hash = sha256('x') WHERE number = 2", "is another one now"),
    ],
)
async def test_a_chain_written_anew_is_found_by_the_node_that_saw_the_other(db: Db, forgery: str, what: str) -> None:
    seen = Seen()
    async with node(db) as here:
        duty = Sealer(seen.here(here))
        for _ in range(2):
            await noted(db)
            await duty.round()
        await forge(db, "audit_seal", forgery)
        await duty.round()

    (facts,) = seen.noted("chain_broken")
    assert facts["seal"] == 2
    assert str(facts["reason"]).endswith(what)


@pytest.mark.req("P10")
async def test_a_pass_goes_on_where_it_was_and_begins_anew_a_day_later(db: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(sealer, "monotonic", lambda: now)
    monkeypatch.setattr(sealer, "STEP_SEALS", 1)
    seen = Seen()
    async with node(db) as here:
        first = Sealer(seen.here(here))
        for _ in range(3):
            await noted(db)
            await first.round()
        duty = Sealer(seen.here(here))
        await duty.round()
        await forge(db, "audit", "UPDATE jobsd.audit SET actor = 'unix:mallory' WHERE sequence = 8")
        found_late = len(seen.noted("chain_broken"))
        await duty.round()
        await duty.round()
        found = len(seen.noted("chain_broken"))
        await duty.round()
        same = len(seen.noted("chain_broken"))
        now = sealer.PASS_S
        for _ in range(3):
            await duty.round()

    assert (found_late, found, same, len(seen.noted("chain_broken"))) == (0, 1, 1, 2)


@pytest.mark.req("P10")
async def test_a_transaction_that_does_not_end_is_told_of_once(db: Db) -> None:
    seen = Seen()
    stuck = await asyncpg.connect(db.url)
    await stuck.execute("BEGIN")
    await stuck.execute("SELECT pg_current_xact_id()")
    await db.execute(
        "INSERT INTO jobsd.audit (sequence, act, actor, at) VALUES (1, 'noted', 'x', now() - interval '1 hour')"
    )
    async with node(db) as here:
        duty = Sealer(seen.here(here))
        await duty.round()
        await duty.round()
        await stuck.close()
        await settled(db)
        await duty.round()

    assert [facts["entries"] for facts in seen.noted("audit_not_sealed")] == [1]
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit_seal") == 1
