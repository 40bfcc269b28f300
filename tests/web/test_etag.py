"""ETags: what did not change is not sent again, and who changes something may say what they saw."""

import pytest

from jobsd.store.db import Db
from tests.support.engine import enqueued
from tests.support.web import Site

PATHS = ["/api/v1/jobs", "/api/v1/jobs/nightly", "/api/v1/runs", "/api/v1/runs/1", "/api/openapi.json"]
STALE = '"999-0123456789abcdef"'


@pytest.mark.parametrize("path", PATHS)
async def test_what_the_client_has_is_not_sent_again(served: Site, db: Db, path: str) -> None:
    await enqueued(db, "by-hand")
    _, _, first = await served.ask("GET", path)

    status, body, headers = await served.ask("GET", path, headers={"If-None-Match": first["ETag"]})
    head, _, _ = await served.ask("HEAD", path, headers={"If-None-Match": f'"other", W/{first["ETag"]}'})
    anything, _, _ = await served.ask("GET", path, headers={"If-None-Match": "*"})

    assert (status, body, headers["ETag"]) == (304, b"", first["ETag"])
    assert (head, anything) == (304, 304)


async def test_what_changed_is_sent_with_another_tag(served: Site, db: Db) -> None:
    (run,) = await enqueued(db, "by-hand")
    _, _, first = await served.ask("GET", f"/api/v1/runs/{run}")
    await db.execute("INSERT INTO jobsd.progress (run, fence, fraction) VALUES ($1, 1, 0.5)", run)

    status, body, second = await served.ask("GET", f"/api/v1/runs/{run}", headers={"If-None-Match": first["ETag"]})

    assert (status, body["progress"]) == (200, 0.5)
    assert first["ETag"] != second["ETag"]
    assert first["ETag"].split("-")[0] == second["ETag"].split("-")[0] == f'"{body["version"]}'


@pytest.mark.parametrize(
    ("method", "act", "body"),
    [
        ("PATCH", "", {"priority": 1}),
        ("POST", "/cancel", {"reason": "no"}),
        ("POST", "/retry", {}),
        ("DELETE", "", None),
    ],
)
@pytest.mark.req("B6", "F5")
async def test_a_change_to_what_is_no_longer_as_it_was_seen_is_refused(
    served: Site, db: Db, method: str, act: str, body: object
) -> None:
    (run,) = await enqueued(db, "by-hand")
    state = {"/retry": "failed", "": "completed" if method == "DELETE" else "queued"}.get(act, "queued")
    if state != "queued":
        await db.execute(ENDED, run, state)

    path = f"/api/v1/runs/{run}{act}"
    _, before, seen = await served.ask("GET", f"/api/v1/runs/{run}")
    stale, problem, _ = await served.ask(method, path, body, headers={"If-Match": STALE})
    odd, _, _ = await served.ask(method, path, body, headers={"If-Match": '"made up"'})
    _, after, _ = await served.ask("GET", f"/api/v1/runs/{run}")
    fresh, _, _ = await served.ask(method, path, body, headers={"If-Match": seen["ETag"]})

    assert (stale, odd, problem["code"]) == (412, 412, "E0413")
    assert before == after
    assert fresh == 200


ENDED = """
    WITH began AS (SELECT set_config('session_replication_role', 'replica', true))
    UPDATE jobsd.run SET state = $2, ready = NULL, finished_at = now() FROM began WHERE id = $1
"""


@pytest.mark.req("F5")
async def test_of_two_who_saw_the_same_run_only_the_first_changes_it(served: Site, db: Db) -> None:
    (run,) = await enqueued(db, "by-hand")
    _, _, seen = await served.ask("GET", f"/api/v1/runs/{run}")
    match = {"If-Match": seen["ETag"]}

    first, changed, headers = await served.ask("PATCH", f"/api/v1/runs/{run}", {"priority": 1}, headers=match)
    second, problem, _ = await served.ask("PATCH", f"/api/v1/runs/{run}", {"priority": 2}, headers=match)
    third, _, _ = await served.ask(
        "PATCH", f"/api/v1/runs/{run}", {"priority": 3}, headers={"If-Match": headers["ETag"]}
    )

    assert (first, second, third) == (200, 412, 200)
    assert problem["detail"].startswith(f"run {run} has changed since: version {changed['version'] - 1} was expected")


async def test_an_answer_that_is_no_success_has_no_tag(served: Site) -> None:
    _, _, headers = await served.ask("GET", "/api/v1/runs/7", headers={"If-None-Match": "*"})

    assert "ETag" not in headers
