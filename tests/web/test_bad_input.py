"""Whatever is sent: a problem document that says what is wrong, never a 500, never a traceback."""

import gzip
from typing import Any

import orjson
import pytest

from jobsd.domain.codes import CODES
from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.support.web import Site, site
from tests.support.wire import wire

RUNS = "/api/v1/jobs/nightly/runs"
DEEP = b'{"params":' + b'{"a":' * 5000 + b"1" + b"}" * 5001


@pytest.mark.parametrize(
    ("data", "status", "detail"),
    [
        (b"{", 400, "the body is not JSON: "),
        (b"\xff\xfe", 400, "the body is not JSON: "),
        (b'{"params": {"a": 1,}}', 400, "the body is not JSON: "),
        (b"[]", 422, "expected a JSON object, got a list"),
        (b"7", 422, "expected a JSON object, got a number"),
        (b'"x"', 422, "expected a JSON object, got a text"),
        (b"null", 422, "expected a JSON object, got null"),
        (b'{"params": {"a": NaN}}', 422, "the body has what cannot be stored: NaN"),
        (b'{"params": {"a": -Infinity}}', 422, "the body has what cannot be stored: NaN"),
        (b'{"params": {"a": 1e999}}', 422, "the body has what cannot be stored: NaN"),
        (b'{"params": {"a": "\\ud800"}}', 422, "the body has what cannot be stored: NaN"),
        (b'{"params": {"a": "x\\u0000y"}}', 422, "params.a: has a NUL character"),
        (b'{"params": {"a\\u0000": 1}}', 422, "params: has a name with a NUL character"),
        (b'{"reason": "\\u0000"}', 422, "reason: has a NUL character"),
        (DEEP, 422, "the body is nested too deeply, at most 32 levels are allowed"),
        (b'{"params": ' + b"[" * 40 + b"]" * 40 + b"}", 422, "params.0: is nested too deeply"),
        (b'{"params": []}', 422, "params: "),
        (b'{"due_at": "tomorrow"}', 422, "due_at: "),
        (b'{"due_at": "2026-11-22T10:00:00"}', 422, "due_at: "),
        (b'{"due_at": "0001-01-01T00:00:00+14:00"}', 422, "due_at: expected a time between 2000 and 2199"),
        (b'{"due_at": "9999-12-31T23:59:59-14:00"}', 422, "due_at: expected a time between 2000 and 2199"),
        (b'{"dry_run": "yes"}', 422, "dry_run: "),
        (b'{"key": ""}', 422, "key: "),
        (b'{"key": 7}', 422, "key: "),
        (b'{"reason": ""}', 422, "reason: "),
        (b'{"run": 1}', 422, "run: "),
    ],
)
@pytest.mark.fault(30)
async def test_a_body_that_is_wrong_is_told_where(served: Site, db: Db, data: bytes, status: int, detail: str) -> None:
    came, body, headers = await served.ask("POST", RUNS, data=data)

    assert (came, body["status"], body["code"]) == (status, status, "E0507")
    assert body["detail"].startswith(detail), body["detail"]
    assert headers["Content-Type"] == "application/problem+json"
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


async def test_all_mistakes_of_a_body_come_at_once_each_with_its_place(served: Site) -> None:
    data = {"params": 7, "dry_run": 3, "a/b~c": 1}

    status, body, _ = await served.ask("POST", RUNS, data)

    assert status == 422
    assert [error["pointer"] for error in body["errors"]] == ["#/params", "#/dry_run", "#/a~1b~0c"]
    assert {error["code"] for error in body["errors"]} == {"E0507"}


@pytest.mark.req("A6")
async def test_parameters_that_do_not_fit_are_told_with_their_place(served: Site) -> None:
    status, body, _ = await served.ask("POST", "/api/v1/jobs/by-hand/runs", {"params": {"limit": 0}})

    assert (status, body["code"]) == (422, "E0504")
    assert [(error["pointer"], error["detail"]) for error in body["errors"]] == [
        ("#/params/course_id", "course_id: field required"),
        ("#/params/limit", "limit: expected greater than or equal to 1, got '0'"),
    ]


@pytest.mark.fault(30, 43)
async def test_a_body_too_large_is_refused_by_its_length_and_while_it_comes(served: Site) -> None:
    large = b'{"params": {"a": "' + b"x" * (2 << 20) + b'"}}'

    status, body, _ = await served.ask("POST", RUNS, data=large)
    squeezed, _, _ = await served.ask("POST", RUNS, data=gzip.compress(large), headers={"Content-Encoding": "gzip"})

    assert (status, body["code"], body["detail"]) == (413, "E0507", "the body is larger than 1048576 bytes")
    assert squeezed == 413


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "nonsense"])
async def test_a_body_that_is_not_encoded_as_it_says_is_the_senders_mistake(served: Site, encoding: str) -> None:
    status, body, _ = await served.ask("POST", RUNS, data=b"not gzip at all", headers={"Content-Encoding": encoding})

    assert (status, body["code"]) == (400, "E0507")


@pytest.mark.fault(46)
async def test_a_body_must_say_that_it_is_json(served: Site) -> None:
    headers = {"Content-Type": "text/plain"}

    status, body, _ = await served.ask("POST", RUNS, data=b"{}", headers=headers)

    assert (status, body["code"]) == (415, "E0507")
    assert body["detail"] == "expected Content-Type: application/json, got 'text/plain'"


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "limit: "),
        ("limit=201", "limit: "),
        ("limit=ten", "limit: "),
        ("limit=1&limit=2", "limit: is there more than once"),
        ("state=lost", "state.0: "),
        ("since=yesterday", "since: "),
        ("since=2026-11-22T10:00:00", "since: "),
        ("since=0001-01-01T00:00:00%2B14:00", "since: expected a time between 2000 and 2199"),
        ("since=99999999999d", "since: expected at most 36500d"),
        ("job=%00", "job: has a NUL character"),
        ("job=" + "x" * 300, "job: "),
        ("cursor=x", "the cursor is not one of this list"),
        ("cursor=WyJqb2JzIiwiYSJd", "the cursor is not one of this list"),  # ["jobs","a"]
        ("cursor=WyJydW5zIiwiYSJd", "the cursor is not one of this list"),  # ["runs","a"]
        ("cursor=WyJydW5zIiwtMV0", "the cursor is not one of this list"),  # ["runs",-1]
        ("cursor=WyJydW5zIiwxZTMwXQ", "the cursor is not one of this list"),  # ["runs",1e30]
        ("cursor=%C3%A4", "cursor: "),
        ("colour=red", "colour: "),
    ],
)
@pytest.mark.fault(50)
async def test_a_query_that_is_wrong_is_told_which_part(served: Site, query: str, detail: str) -> None:
    status, body, _ = await served.ask("GET", f"/api/v1/runs?{query}")

    assert (status, body["code"]) == (422, "E0507")
    assert body["detail"].startswith(detail), body["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nothing", 404, "E0509"),
        ("GET", "/api/v2/jobs", 404, "E0509"),
        ("GET", "/api/v1/jobs/", 404, "E0509"),
        ("POST", "/nothing", 404, "E0509"),
        ("GET", "/api/v1/jobs/nope", 404, "E0501"),
        ("GET", "/api/v1/jobs/%00", 404, "E0501"),
        ("GET", "/api/v1/jobs/%FF%ED%A0%80", 404, "E0501"),
        ("GET", "/api/v1/jobs/nope/why", 404, "E0501"),
        ("POST", "/api/v1/jobs/nope/runs", 404, "E0501"),
        ("POST", "/api/v1/jobs/nope/disable", 404, "E0501"),
        ("GET", "/api/v1/jobs/..%2F..%2Fetc%2Fpasswd", 404, "E0501"),
        ("GET", "/api/v1/runs/7", 404, "E0503"),
        ("GET", "/api/v1/runs/-1", 404, "E0503"),
        ("GET", "/api/v1/runs/99999999999999999999", 404, "E0503"),
        ("GET", "/api/v1/runs/%D9%A1", 404, "E0503"),
        ("GET", "/api/v1/runs/7/attempts", 404, "E0503"),
        ("GET", "/api/v1/runs/7/audit", 404, "E0503"),
        ("GET", "/api/v1/runs/7/messages", 404, "E0503"),
        ("GET", "/api/v1/runs/7/progress", 404, "E0503"),
        ("DELETE", "/api/v1/jobs/nightly", 405, "E0507"),
        ("GET", "/api/v1/reload", 405, "E0507"),
        ("PATCH", "/livez", 405, "E0507"),
    ],
)
@pytest.mark.fault(49)
async def test_what_is_not_there_is_told_by_its_code(
    served: Site, method: str, path: str, status: int, code: str
) -> None:
    came, body, _ = await served.ask(method, path)

    assert (came, body["code"], body["title"]) == (status, code, CODES[code])


async def test_an_unknown_job_is_answered_with_the_nearest_one(served: Site) -> None:
    _, body, _ = await served.ask("GET", "/api/v1/jobs/nigthly")

    assert (body["detail"], body["hint"]) == ('no job named "nigthly"', 'did you mean "nightly"?')


async def test_a_method_that_does_not_fit_is_answered_with_those_that_do(served: Site) -> None:
    _, body, headers = await served.ask("DELETE", "/livez")

    assert body["detail"] == "/livez takes GET, HEAD, not DELETE"
    assert headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "said",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000 + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET http://[::1 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
@pytest.mark.fault(43, 47, 49)
async def test_what_is_not_http_is_a_400_and_the_daemon_serves_on(served: Site, said: bytes) -> None:
    async with wire(served.addresses.url) as odd:
        await odd.send(said)
        answer = await odd.rest()

    status, _, _ = await served.ask("GET", "/livez")
    head, _, document = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0].split(" ")[1] == "400"
    assert {"X-Content-Type-Options: nosniff", "Server: jobsd", "Content-Type: application/problem+json"} <= {*lines}
    assert any(line.startswith("Content-Security-Policy: default-src 'none'") for line in lines)
    assert orjson.loads(document)["code"] == "E0507"
    assert b"Traceback" not in answer
    assert status == 200


async def test_a_mistake_of_our_own_is_logged_and_not_shown(db: Db, registry: Registry) -> None:
    def broken() -> Any:
        raise RuntimeError("postgresql://app:hunter2@db/app")

    async with site(db, registry, vitals=broken) as here:
        status, body, _ = await here.ask("GET", "/healthz")

    (event,) = here.events
    assert (status, body["code"]) == (500, "E0512")
    assert "hunter2" not in str(body)
    assert "RuntimeError" not in str(body)
    assert event.event == "request_failed"  # type: ignore[union-attr]
    assert event.fields["at"].rpartition(":")[0].endswith("test_bad_input.py")  # type: ignore[union-attr]
