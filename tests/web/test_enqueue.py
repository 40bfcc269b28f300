"""POST /api/v1/jobs/{job}/runs: one run, or up to 10,000 in one call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.web.patience import Patience
from tests.support.engine import registered
from tests.support.web import JOBS, Site, registry_of, site

RUNS = "/api/v1/jobs/ping/runs"
CAPPED = """
[jobs.few]
command = ["true"]
max_active = 2
"""


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return registry_of(tmp_path, JOBS + CAPPED)


@pytest.fixture
async def served(db: Db, registry: Registry) -> AsyncIterator[Site]:
    """With the body limit that the settings have."""
    await registered(db, *registry.jobs.values())
    patience = Patience(body_bytes=registry.settings.http.max_body)
    async with site(db, registry, patience=patience) as here:
        yield here


async def count(db: Db) -> int:
    return int(await db.fetchval("SELECT count(*) FROM jobsd.run"))


@pytest.mark.req("B1", "D5", "F5")
async def test_one_run_with_priority_and_tags_is_answered_whole(served: Site) -> None:
    asked = {"priority": "high", "tags": {"language": "fr"}, "params": {"n": 1}, "reason": "late data"}

    status, run, headers = await served.ask("POST", RUNS, asked)

    assert status == 201
    assert headers["Location"] == f"/api/v1/runs/{run['id']}"
    assert (run["priority"], run["tags"], run["reason"], run["created"]) == (3, {"language": "fr"}, "late data", True)


@pytest.mark.req("F1", "P5")
async def test_ten_thousand_runs_fit_into_one_call(served: Site, db: Db) -> None:
    note = "x" * 300
    runs = [{"params": {"n": n, "note": note}, "tags": {"batch": "7"}} for n in range(10_000)]

    status, answer, _ = await served.ask("POST", RUNS, {"runs": runs, "reason": "new term"})

    assert (status, answer["created"], answer["existing"]) == (201, 10_000, 0)
    assert answer["ids"] == sorted(set(answer["ids"]))
    assert await count(db) == 10_000


async def test_more_than_ten_thousand_are_refused(served: Site, db: Db) -> None:
    status, answer, _ = await served.ask("POST", RUNS, {"runs": [{}] * 10_001})

    assert (status, answer["code"]) == (422, "E0507")
    assert await count(db) == 0


@pytest.mark.req("P2")
async def test_the_header_numbers_the_keys_of_many_so_that_a_call_can_be_repeated(served: Site, db: Db) -> None:
    asked = {"runs": [{"params": {"n": 0}}, {"params": {"n": 1}, "key": "mine"}, {"params": {"n": 2}}]}
    header = {"Idempotency-Key": "2026-11-22"}

    first = await served.ask("POST", RUNS, asked, headers=header)
    again = await served.ask("POST", RUNS, asked, headers=header)

    keys = await db.fetch("SELECT idempotency_key FROM jobsd.run ORDER BY id")
    assert [row["idempotency_key"] for row in keys] == ["2026-11-22#0", "mine", "2026-11-22#2"]
    assert (first[0], first[1]["created"]) == (201, 3)
    assert (again[0], again[1]["created"], again[1]["ids"]) == (200, 0, first[1]["ids"])


@pytest.mark.parametrize("key", ["", "x" * 201, "\udcff", "a\tb"])
async def test_a_header_that_cannot_be_a_key_is_refused(served: Site, key: str) -> None:
    status, answer = await raw(served, key.encode("utf-8", "surrogateescape"))

    assert (status, answer["code"]) == (422, "E0507")


async def raw(served: Site, key: bytes) -> tuple[int, Any]:
    """A request whose key is these bytes; the status and the decoded answer."""
    reader, writer = await asyncio.open_unix_connection(str(served.addresses.socket))
    head = f"POST {RUNS} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\nIdempotency-Key: "
    writer.write(head.encode() + key + b"\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return int(answer.split(b" ", 2)[1]), orjson.loads(answer.split(b"\r\n\r\n", 1)[1])


async def test_mistakes_among_many_are_told_with_their_places(served: Site, db: Db) -> None:
    asked = {"runs": [{}, {"priority": 11}, {"tags": {"Big": "x"}}, {"parms": {}}]}

    status, answer, _ = await served.ask("POST", RUNS, asked)

    assert status == 422
    assert [each["pointer"] for each in answer["errors"]] == [
        "#/runs/1/priority",
        "#/runs/2/tags/Big/[key]",
        "#/runs/3/parms",
    ]
    assert await count(db) == 0


@pytest.mark.req("D3")
async def test_too_many_active_runs_are_a_conflict_that_says_how_many_there_is_room_for(served: Site) -> None:
    await served.ask("POST", "/api/v1/jobs/few/runs", {})

    status, answer, _ = await served.ask("POST", "/api/v1/jobs/few/runs", {"runs": [{}, {}]})
    fits = await served.ask("POST", "/api/v1/jobs/few/runs", {})

    assert (status, answer["code"]) == (409, "E0514")
    assert answer["detail"] == "few may have 2 active runs: there is room for 1 more, 2 were asked for"
    assert fits[0] == 201


@pytest.mark.req("F5")
async def test_a_key_that_stands_for_another_request_is_refused_with_422(served: Site) -> None:
    await served.ask("POST", RUNS, {"params": {"n": 1}, "key": "k"})

    status, answer, _ = await served.ask("POST", RUNS, {"params": {"n": 2}, "key": "k"})

    assert (status, answer["code"]) == (422, "E0507")
    assert 'the idempotency key "k" belongs to run' in answer["detail"]


async def test_what_is_queued_wakes_the_node_once(served: Site) -> None:
    await served.ask("POST", RUNS, {"runs": [{}] * 50})

    assert len(served.woken) == 1
