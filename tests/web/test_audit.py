"""The audit over HTTP: read, checked, exported."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from jobsd.domain.exported import verdict
from jobsd.observe.redact import Redactor
from jobsd.operations.pages import cursor_of
from jobsd.registry.load import Registry
from jobsd.store import audit, jobs, seal
from jobsd.store.db import Db
from tests.support.engine import enqueued, registered
from tests.support.settled import settled
from tests.support.web import Site, site

AUDIT = "/api/v1/audit"


async def asked(served: Site, query: str = "") -> list[dict[str, Any]]:
    status, page, _ = await served.ask("GET", f"{AUDIT}{query}")
    assert status == 200, page
    return list(page["items"])


async def sealed(db: Db) -> None:
    await settled(db)
    assert isinstance(await seal.seal(db, "node:one", 10_000), seal.Sealed)


@pytest.mark.req("B9", "A7")
async def test_acts_are_read_the_latest_first_and_narrowed_by_run_job_actor_act_and_time(served: Site, db: Db) -> None:
    (run,) = await enqueued(db, "ping")
    await enqueued(db, "nightly", count=2)
    await jobs.audit(db, "disabled", "unix:alice", job="nightly", reason="maintenance")

    every = await asked(served)
    narrowed = {
        query: [(act["act"], act["job"]) for act in await asked(served, query)]
        for query in (
            f"?run={run}",
            "?job=nightly",
            "?actor=unix:alice",
            "?act=queued&job=nightly",
            "?since=1h&act=disabled",
            "?since=2190-01-01T00:00:00Z",
            f"?run={run}&job=nightly",
            "?act=nothing",
        )
    }

    assert [act["act"] for act in every] == ["disabled", "queued", "queued", "queued"]
    assert (every[0]["reason"], every[0]["run"], every[0]["actor"]) == ("maintenance", None, "unix:alice")
    assert list(narrowed.values()) == [
        [("queued", "ping")],
        [("disabled", "nightly"), ("queued", "nightly"), ("queued", "nightly")],
        [("disabled", "nightly")],
        [("queued", "nightly")] * 2,
        [("disabled", "nightly")],
        [],
        [],
        [],
    ]


OLD = "INSERT INTO jobsd.audit (run, sequence, act, actor, at) VALUES (1, $1, 'x', 'x', $2)"


@pytest.mark.req("B9")
@pytest.mark.parametrize("narrowed", ["", "&run=1"])
async def test_pages_follow_each_other_back_to_the_first_entry_however_old(served: Site, db: Db, narrowed: str) -> None:
    now = datetime.now(UTC)
    times = [now - timedelta(hours=hours) for hours in (0, 0, 0.5, 2, 2, 40, 24 * 90, 24 * 3000)]
    for number, at in enumerate(times):
        await db.execute(OLD, number, at)
    await db.execute("UPDATE jobsd.migration SET applied_at = now() - interval '10 years'")

    found, link = [], f"{AUDIT}?limit=3{narrowed}"
    while link:
        _, page, headers = await served.ask("GET", link)
        found += [act["sequence"] for act in page["items"]]
        link = headers["Link"].split(">")[0][1:] if "Link" in headers else ""

    assert found == [1, 0, 2, 4, 3, 5, 6, 7]


async def test_the_audit_of_a_run_that_is_gone_is_still_there(served: Site, db: Db) -> None:
    (run,) = await enqueued(db, "ping")
    await db.execute("UPDATE jobsd.run SET state = 'cancelled', ready = NULL, finished_at = now()")
    await db.execute("DELETE FROM jobsd.run")

    assert [act["act"] for act in await asked(served, f"?run={run}")] == ["queued"]


@pytest.mark.parametrize(
    "query", ["?run=0", "?run=x", "?since=yesterday", "?cursor=abc", "?state=failed", "?limit=201"]
)
@pytest.mark.parametrize("path", [AUDIT, f"{AUDIT}/verify", f"{AUDIT}/export"])
async def test_what_cannot_be_asked_is_refused_as_such(served: Site, path: str, query: str) -> None:
    if path.endswith("export") and query.startswith("?limit"):
        query = "?limit=5001"

    status, body, _ = await served.ask("GET", path + query)

    assert (status, body["code"]) == (422, "E0507")


@pytest.mark.parametrize("made_up", ["x", "1:2", "-1:0:0", f"{2**60}:0:0", f"1:{2**63}:0", "99999999999999999999:1:1"])
@pytest.mark.parametrize("kind", ["audit", "export"])
async def test_a_made_up_cursor_is_refused(served: Site, kind: str, made_up: str) -> None:
    cursor = cursor_of(kind, made_up if kind == "audit" else f"0:{made_up}:{2**63}")
    path = AUDIT if kind == "audit" else f"{AUDIT}/export"

    status, body, _ = await served.ask("GET", f"{path}?cursor={cursor}")

    assert (status, body["code"]) == (422, "E0507")


async def test_a_cursor_of_long_ago_ends_the_list(served: Site, db: Db) -> None:
    await enqueued(db, "ping")

    assert await asked(served, f"?cursor={cursor_of('audit', '1:1:1')}") == []


@pytest.mark.req("P10")
async def test_the_chain_is_checked_stretch_by_stretch_and_its_head_told(
    served: Site, db: Db, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobsd.operations.audit.STEP_SEALS", 2)
    for _ in range(5):
        await enqueued(db, "ping", count=2)
        await sealed(db)
    await enqueued(db, "ping")

    answers, cursor = [], ""
    while cursor is not None:
        _, answer, _ = await served.ask("GET", f"{AUDIT}/verify?cursor={cursor}" if cursor else f"{AUDIT}/verify")
        answers.append(answer)
        cursor = answer["cursor"]

    head = await seal.head(db)
    assert head is not None
    assert [(answer["seals"], answer["entries"]) for answer in answers] == [(2, 4), (2, 4), (1, 2)]
    assert all(answer["broken"] is None for answer in answers)
    assert (answers[0]["head"]["number"], answers[0]["head"]["hash"]) == (5, head.hash)
    assert (answers[0]["unsealed"], answers[0]["unsealed_since"] is not None) == (1, True)


async def test_an_audit_that_was_never_sealed_holds(served: Site, db: Db) -> None:
    status, answer, _ = await served.ask("GET", f"{AUDIT}/verify")

    assert (status, answer["seals"], answer["broken"], answer["head"], answer["cursor"]) == (200, 0, None, None, None)


@pytest.mark.req("P10")
async def test_an_export_in_pages_has_each_seal_after_its_entries_and_checks_by_itself(served: Site, db: Db) -> None:
    for count in (3, 1, 4):
        await enqueued(db, "ping", count=count)
        await sealed(db)
    await enqueued(db, "ping", count=2)

    lines, link = [], f"{AUDIT}/export?limit=3"
    while link:
        _, page, headers = await served.ask("GET", link)
        lines += page["items"]
        link = headers["Link"].split(">")[0][1:] if "Link" in headers else ""

    kinds = "".join(line["record"][0] for line in lines)
    found = verdict(map(_line, lines))
    assert kinds == "eeeseseeeesee"
    assert (found.seals, found.entries, found.unsealed, found.masked, found.broken) == (3, 8, 2, 0, None)


@pytest.mark.req("P10")
async def test_a_masked_entry_of_an_export_says_so_and_the_chain_still_holds(db: Db, registry: Registry) -> None:
    await registered(db, *registry.jobs.values())
    await jobs.audit(db, "noted", "unix:alice", reason="it was opensesame all the time")
    await jobs.audit(db, "token_created", "unix:alice", detail={"token": "a page's"})
    await sealed(db)

    async with site(db, registry, redactor=Redactor(["opensesame"])) as served:
        _, page, _ = await served.ask("GET", f"{AUDIT}/export")

    masked = [line.get("masked") for line in page["items"]]
    found = verdict(map(_line, page["items"]))
    assert "opensesame" not in str(page)
    assert masked == [True, True, None]
    assert (found.masked, found.broken) == (2, None)


def _line(record: dict[str, Any]) -> str:
    return orjson.dumps(record).decode()


async def test_the_index_serves_the_latest_entries_of_a_long_audit(db: Db) -> None:
    await db.execute(
        "INSERT INTO jobsd.audit (sequence, act, actor, at) "
        "SELECT n, 'x', 'x', now() - interval '1 minute' * (100000 - n) FROM generate_series(1, 100000) AS n"
    )
    await db.execute("VACUUM ANALYZE jobsd.audit")

    plan = await db.fetch("EXPLAIN " + audit.ENTRIES.replace("$1", "now() - interval '1 h'").replace("$2", "now()")
                          .replace("$3", "0").replace("$4", "0").replace("$5", "NULL").replace("$6", "NULL")
                          .replace("$7", "NULL").replace("$8", "50"))  # fmt: skip

    assert any("audit_at_tx" in row["QUERY PLAN"] for row in plan)
