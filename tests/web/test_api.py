"""Jobs and runs over HTTP: what a client sees of the walk from a request to a result."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobsd.domain.lifecycle import SettlePolicy, settle
from jobsd.domain.outcome import Failed, Usage
from jobsd.observe.redact import Redactor
from jobsd.registry.load import Registry
from jobsd.store import history
from jobsd.store.db import Db
from jobsd.store.history import Ended
from jobsd.web.app import ROUTES
from tests.support.engine import enqueued, node, registered, request
from tests.support.web import Site, registry_of, site

RUNS = "/api/v1/jobs/nightly/runs"


@pytest.mark.req("A6")
async def test_a_trigger_answers_the_run_and_where_it_is_and_wakes_the_claimer(served: Site) -> None:
    status, run, headers = await served.ask("POST", RUNS, {"params": {"day": 1}, "reason": "late data"})
    _, again, _ = await served.ask("GET", headers["Location"])

    assert (status, headers["Location"]) == (201, f"/api/v1/runs/{run['id']}")
    assert again == {key: value for key, value in run.items() if key != "created"}
    assert (again["state"], again["params"]) == ("queued", {"region": "eu", "day": 1})
    assert len(served.woken) == 1


async def test_an_empty_body_asks_for_a_run_with_the_jobs_own_parameters(served: Site) -> None:
    status, run, _ = await served.ask("POST", RUNS)

    assert (status, run["params"], run["dry_run"]) == (201, {"region": "eu"}, False)


@pytest.mark.parametrize("header", [True, False])
async def test_the_same_idempotency_key_makes_one_run_in_header_or_body(served: Site, header: bool) -> None:
    headers = {"Idempotency-Key": "k"} if header else {}
    body = {} if header else {"key": "k"}

    first, made, _ = await served.ask("POST", RUNS, body, headers=headers)
    second, there, _ = await served.ask("POST", RUNS, body, headers=headers)

    assert (first, second) == (201, 200)
    assert (made["id"], made["created"]) == (there["id"], True)
    assert there["created"] is False


async def test_the_same_idempotency_key_with_another_body_is_refused(served: Site) -> None:
    await served.ask("POST", RUNS, {"params": {"day": 1}}, headers={"Idempotency-Key": "k"})

    status, body, _ = await served.ask("POST", RUNS, {"params": {"day": 2}}, headers={"Idempotency-Key": "k"})
    clash, _, _ = await served.ask("POST", RUNS, {"key": "a"}, headers={"Idempotency-Key": "b"})

    assert (status, body["code"]) == (422, "E0507")
    assert clash == 422


@pytest.mark.req("A8")
async def test_a_dry_run_is_recorded_as_one(served: Site) -> None:
    _, run, _ = await served.ask("POST", RUNS, {"dry_run": True})

    assert run["dry_run"] is True


async def test_runs_are_listed_by_state_job_and_time_page_by_page(served: Site, db: Db) -> None:
    nightly = await enqueued(db, "nightly", 5)
    await enqueued(db, "ping", 2)

    seen: list[int] = []
    path: str | None = "/api/v1/runs?job=nightly&state=queued&state=failed&since=1h&limit=2"
    while path:
        _, page, headers = await served.ask("GET", path)
        seen += [run["id"] for run in page["items"]]
        link = re.fullmatch(r'<(.*)>; rel="next"', headers.get("Link", ""))
        assert (link is None) == (page["cursor"] is None)
        path = link[1] if link else None
    _, done, _ = await served.ask("GET", "/api/v1/runs?state=completed")
    _, future, _ = await served.ask("GET", "/api/v1/runs?since=2100-01-01T00:00:00Z")

    assert seen == [*reversed(nightly)]
    assert done == future == {"items": [], "cursor": None}


async def test_how_many_there_are_in_all_is_told_when_asked_and_not_counted_past_ten_thousand(
    served: Site, db: Db
) -> None:
    await enqueued(db, "nightly", 3)
    _, _, silent = await served.ask("GET", "/api/v1/runs")
    _, page, few = await served.ask("GET", "/api/v1/runs?total=true&limit=1&job=nightly")
    await enqueued(db, "ping", 10_001)

    _, _, many = await served.ask("GET", "/api/v1/runs?total=true&limit=1&state=queued")
    _, _, none = await served.ask("GET", "/api/v1/runs?total=true&state=failed")

    assert "X-Total" not in silent
    assert (few["X-Total"], len(page["items"])) == ("3", 1)
    assert (many["X-Total"], none["X-Total"]) == ("10,000+", "0")


async def test_new_runs_do_not_shift_the_pages_that_follow(served: Site, db: Db) -> None:
    old = await enqueued(db, "nightly", 4)
    _, first, _ = await served.ask("GET", "/api/v1/runs?limit=2")
    await enqueued(db, "nightly", 3)

    _, second, _ = await served.ask("GET", f"/api/v1/runs?limit=2&cursor={first['cursor']}")

    assert [run["id"] for run in (*first["items"], *second["items"])] == [*reversed(old)]


@pytest.mark.req("B7", "B8", "B9")
async def test_a_failed_run_shows_its_error_word_for_word_and_its_history(db: Db, registry: Registry) -> None:
    await registered(db, *registry.jobs.values())
    (run,) = await enqueued(db, "ping")
    error = "line one\nline two: ünïcode " + "x" * 500
    async with node(db, "one") as here:
        (claimed,) = (await here.keeper.claim(request(here, "ping"))).runs
        now = datetime.now(UTC)
        await db.execute(SAID, run, claimed.fence)
        settlement = settle(claimed, SettlePolicy(), Failed("exit", error, Usage("the tail", 3, 1024, 0.5)), now)
        await history.settle(db, [Ended(claimed, here.keeper.node, settlement, now)], here.actor)

    async with site(db, registry) as served:
        _, shown, _ = await served.ask("GET", f"/api/v1/runs/{run}")
        _, listed, _ = await served.ask("GET", "/api/v1/runs?state=failed")
        _, attempts, _ = await served.ask("GET", f"/api/v1/runs/{run}/attempts")
        _, audit, _ = await served.ask("GET", f"/api/v1/runs/{run}/audit")
        _, messages, _ = await served.ask("GET", f"/api/v1/runs/{run}/messages")
        _, later, _ = await served.ask("GET", f"/api/v1/runs/{run}/messages?after={messages['items'][0]['id']}")
        _, progress, _ = await served.ask("GET", f"/api/v1/runs/{run}/progress")

    (attempt,) = attempts["items"]
    assert (shown["state"], shown["outcome"], shown["error_kind"], shown["error"]) == (
        "failed",
        "failed",
        "exit",
        error,
    )
    assert listed["items"][0]["error"] == error[:300]
    assert (attempt["error"], attempt["output"], attempt["exit_code"]) == (error, "the tail", 3)
    assert (attempt["node"], attempt["peak_memory_bytes"], attempt["cpu_seconds"]) == ("one", 1024, 0.5)
    assert [entry["act"] for entry in audit["items"]] == ["queued", "started", "failed"]
    assert [(message["level"], message["text"]) for message in messages["items"]] == [("info", "one"), ("error", "two")]
    assert [message["text"] for message in later["items"]] == ["two"]
    assert (progress["progress"], progress["note"], progress["left_s"]) == (0.25, "a quarter", None)


SAID = """
    WITH said AS (
        INSERT INTO jobsd.message (run, fence, level, text) VALUES ($1, $2, 'info', 'one'), ($1, $2, 'error', 'two')
    )
    INSERT INTO jobsd.progress (run, fence, fraction, note) VALUES ($1, $2, 0.25, 'a quarter')
"""


@pytest.mark.req("D2")
async def test_progress_of_a_running_run_says_how_long_it_still_takes(db: Db, registry: Registry) -> None:
    await registered(db, *registry.jobs.values())
    (run,) = await enqueued(db, "ping")
    async with node(db, "one") as here, site(db, registry) as served:
        (claimed,) = (await here.keeper.claim(request(here, "ping"))).runs
        await db.execute(A_QUARTER_IN_TEN_SECONDS)
        _, progress, _ = await served.ask("GET", f"/api/v1/runs/{run}/progress")

    assert claimed.id == run
    assert (progress["state"], progress["left_s"]) == ("running", 30.0)


A_QUARTER_IN_TEN_SECONDS = """
    INSERT INTO jobsd.progress (run, fence, fraction, at)
    SELECT id, fence, 0.25, started_at + interval '10 s' FROM jobsd.run
"""


@pytest.mark.req("E11")
async def test_switching_over_http_is_seen_at_once(served: Site) -> None:
    _, off, _ = await served.ask("POST", "/api/v1/jobs/ping/disable", {"reason": "database moves"})
    _, why, _ = await served.ask("GET", "/api/v1/jobs/ping/why")
    _, status, _ = await served.ask("GET", "/api/v1/status")
    _, on, _ = await served.ask("POST", "/api/v1/jobs/ping/enable")

    assert (off["enabled"], off["disabled_reason"]) == (False, "database moves")
    assert why["reasons"][0]["code"] == "disabled"
    assert [slot["job"] for slot in status["next"]] == ["nightly"]
    assert (on["enabled"], on["disabled_by"], on["disabled_reason"]) == (True, None, None)
    assert len(served.woken) == 2


@pytest.mark.req("E11")
async def test_the_status_tells_node_registry_queue_and_what_comes_next(served: Site, db: Db) -> None:
    await enqueued(db, "nightly", 2)
    async with node(db, "other"):
        _, status, _ = await served.ask("GET", "/api/v1/status", tcp=True)

    assert (status["node"], status["draining"], status["verdict"]) == ("testnode", False, "healthy")
    assert (status["registry"]["jobs"], status["registry"]["scheduled"]) == (3, 2)
    assert (status["queue"]["due"], status["queue"]["running"]) == (2, 0)
    assert [(other["name"], other["state"]) for other in status["nodes"]] == [("other", "live")]
    assert {slot["job"] for slot in status["next"]} == {"nightly", "ping"}


@pytest.mark.req("A6")
async def test_a_job_tells_its_next_slots_and_its_ledger(served: Site) -> None:
    _, next_, _ = await served.ask("GET", "/api/v1/jobs/nightly/next?count=3")
    _, slots, _ = await served.ask("GET", "/api/v1/jobs/nightly/slots")

    assert (next_["schedule"], next_["timezone"]) == ("at 02:30 every day, Europe/Berlin", "Europe/Berlin")
    assert len(next_["items"]) == 3
    assert all(" 02:30:00 CE" in slot["local"] for slot in next_["items"])
    assert slots == {"items": [], "cursor": None}


async def test_no_answer_shows_a_secret_that_the_daemon_knows(db: Db, tmp_path: Path) -> None:
    text = '[jobs.a]\ncommand = ["true"]\nparams = { password = "hunter2hunter2", url = "https://u:pw12345@x.test" }\n'
    registry = registry_of(tmp_path, text)
    await registered(db, *registry.jobs.values())

    async with site(db, registry, redactor=Redactor(["swordfish-1234"])) as here:
        asked = {"params": {"note": "it is swordfish-1234"}}
        answers = [
            await here.ask("POST", "/api/v1/jobs/a/runs", asked),
            await here.ask("GET", "/api/v1/jobs/a"),
            await here.ask("GET", "/api/v1/runs/1"),
        ]

    for secret in ("hunter2", "pw12345", "swordfish"):
        assert secret not in str([body for _, body, _ in answers])
    assert answers[0][1]["params"]["note"] == "it is ***"


def test_every_route_says_what_it_is_for() -> None:
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES)
    assert [route.path for route in ROUTES if not (route.handle.__doc__ or "").strip()] == []
