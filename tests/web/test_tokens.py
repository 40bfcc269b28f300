"""Tokens over TCP: who gets in, how far, for how long; what is kept of a token, and where its holder is named."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobsd.domain.scope import Scope
from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.web.app import ROUTES
from tests.support.engine import registered
from tests.support.postgres import OwnServer
from tests.support.tokens import bearer, token
from tests.support.web import Site, site

RUNS = "/api/v1/jobs/nightly/runs"
REACH = [(held, needed) for held in Scope for needed in Scope]
NEEDS = {
    Scope.READ: ("GET", "/api/v1/runs"),
    Scope.TRIGGER: ("POST", RUNS),
    Scope.OPERATE: ("POST", "/api/v1/jobs/nightly/disable"),
    Scope.ADMIN: ("POST", "/api/v1/reload"),
}


@pytest.fixture
async def afar(db: Db, registry: Registry) -> AsyncIterator[Site]:
    """The application as it is on a listener that others reach."""
    await registered(db, *registry.jobs.values())
    async with site(db, registry, host="0.0.0.0") as here:
        yield here


@pytest.mark.parametrize(("held", "needed"), REACH, ids=lambda scope: scope.value)
@pytest.mark.req("A6")
@pytest.mark.fault(44)
async def test_a_token_reaches_what_its_scope_and_those_below_allow(
    afar: Site, db: Db, held: Scope, needed: Scope
) -> None:
    secret = await token(db, held)
    method, path = NEEDS[needed]

    status, body, headers = await afar.ask(method, path, tcp=True, headers=bearer(secret))

    reaches = list(Scope).index(held) >= list(Scope).index(needed)
    assert (status < 300) is reaches
    if not reaches:
        assert (status, body["code"]) == (403, "E0411")
        assert body["detail"] == f"token:a-{held}-one may {held}; this takes {needed}"
        assert headers["WWW-Authenticate"].endswith(f'error="insufficient_scope", scope="{needed}"')


@pytest.mark.req("A6")
@pytest.mark.fault(44)
async def test_off_loopback_nothing_but_the_probes_answers_without_a_token(afar: Site) -> None:
    paths = [(route.method, route.path.replace("{job}", "nightly").replace("{run}", "1")) for route in ROUTES]

    answers = {path: (await afar.ask(method, path, tcp=True))[0] for method, path in paths}

    assert {path for path, status in answers.items() if status != 401} == {"/livez", "/readyz"}


async def test_off_loopback_what_is_not_there_is_not_told_either(afar: Site) -> None:
    answers = [await afar.ask(method, "/nothing", tcp=True) for method in ("GET", "POST", "PUT")]

    assert [status for status, _, _ in answers] == [401, 401, 401]


@pytest.mark.parametrize("header", ["X-Forwarded-For", "Forwarded", "Via"])
async def test_what_a_proxy_passed_on_to_loopback_needs_a_token_to_read(served: Site, db: Db, header: str) -> None:
    passed = {header: "for=192.0.2.7"}

    status, body, _ = await served.ask("GET", "/api/v1/runs", tcp=True, headers=passed)
    shown, _, _ = await served.ask(
        "GET", "/api/v1/runs", tcp=True, headers={**passed, **bearer(await token(db, "read"))}
    )

    assert (status, body["code"], shown) == (401, "E0402", 200)


async def test_a_token_counts_on_the_socket_too_so_that_a_proxy_lends_out_nothing(served: Site, db: Db) -> None:
    secret = await token(db, "read")

    reading, _, _ = await served.ask("GET", "/api/v1/runs", headers=bearer(secret))
    changing, body, _ = await served.ask("POST", RUNS, headers=bearer(secret))
    made_up, _, _ = await served.ask("GET", "/api/v1/runs", headers=bearer("jobsd_" + "x" * 43))

    assert (reading, changing, body["code"], made_up) == (200, 403, "E0411", 401)


@pytest.mark.req("A7", "B9")
async def test_the_holder_of_a_token_is_the_actor_of_what_it_does(afar: Site, db: Db) -> None:
    secret = await token(db, "trigger", "ci-deploy")

    _, run, _ = await afar.ask("POST", RUNS, tcp=True, headers=bearer(secret))
    entries = await db.fetch("SELECT act, actor FROM jobsd.audit_log WHERE run = $1", run["id"])

    assert run["actor"] == "token:ci-deploy"
    assert [tuple(entry) for entry in entries] == [("queued", "token:ci-deploy")]


GONE = "UPDATE jobsd.api_token SET revoked_at = now(), revoked_by = 'test'"


@pytest.mark.fault(45)
async def test_a_token_that_expired_or_was_revoked_is_no_good_at_once(afar: Site, db: Db) -> None:
    lasting, short = await token(db, "read", "lasting"), await token(db, "read", "short", "1s")
    before = [(await afar.ask("GET", "/api/v1/runs", tcp=True, headers=bearer(lasting)))[0]]

    await db.execute(GONE + " WHERE name = 'lasting'")
    revoked, body, headers = await afar.ask("GET", "/api/v1/runs", tcp=True, headers=bearer(lasting))
    while await db.fetchval("SELECT expires_at > now() FROM jobsd.api_token WHERE name = 'short'"):
        await asyncio.sleep(0.05)
    expired, _, _ = await afar.ask("GET", "/api/v1/runs", tcp=True, headers=bearer(short))

    assert (before, revoked, expired) == ([200], 401, 401)
    assert (body["code"], headers["WWW-Authenticate"]) == ("E0410", 'Bearer realm="jobsd", error="invalid_token"')


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic dXNlcjpwdw==", "E0402"),
        ("Bearer", "E0402"),
        ("Bearer ", "E0402"),
        ("Bearer x", "E0410"),
        ("Bearer jobsd_" + "A" * 43, "E0410"),
        ("Bearer jobsd_" + "A" * 5000, "E0410"),
        ("Bearer \u00fc\u4e2d", "E0410"),
    ],
)
async def test_what_is_no_token_of_ours_opens_nothing_not_even_reading_on_loopback(
    served: Site, header: str, code: str
) -> None:
    status, body, _ = await served.ask("GET", "/api/v1/runs", tcp=True, headers={"Authorization": header})

    assert (status, body["code"]) == (401, code)
    assert len(header) < 10 or header.split()[1] not in str(body)


@pytest.mark.fault(45, 51)
async def test_a_refused_token_is_logged_by_where_it_came_from_and_not_by_its_text(served: Site) -> None:
    secret = "jobsd_" + "B" * 43

    await served.ask("GET", "/api/v1/runs", tcp=True, headers=bearer(secret))

    (event,) = served.events
    assert event.event == "token_refused"  # type: ignore[union-attr]
    assert event.fields == {"peer": "127.0.0.1", "path": "/api/v1/runs"}  # type: ignore[union-attr]


@pytest.mark.req("P6")
async def test_while_the_database_is_away_nobody_gets_in_and_no_token_is_called_bad(
    postgres_server: OwnServer, registry: Registry
) -> None:
    async with Db.open(await postgres_server.database()) as away:
        secret = await token(away, "admin")
        postgres_server.stop()
        async with site(away, registry, host="0.0.0.0") as here:
            answers = [await here.ask("GET", "/api/v1/tokens", tcp=True, headers=bearer(secret)) for _ in range(12)]
            probe, _, _ = await here.ask("GET", "/livez", tcp=True)

    assert {(status, body["code"]) for status, body, _ in answers} == {(503, "E0511")}
    assert "Retry-After" in answers[0][2]
    assert probe == 200


async def made(here: Site, **body: Any) -> tuple[int, Any]:
    status, answer, _ = await here.ask("POST", "/api/v1/tokens", {"name": "ci", "scope": "read", **body})
    return status, answer


@pytest.mark.req("A7")
@pytest.mark.fault(45, 51)
async def test_of_a_token_only_its_hash_is_kept_and_its_making_is_audited(served: Site, db: Db) -> None:
    status, answer = await made(served, expires="90d", reason="for the pipeline")

    secret = answer["token"]
    dump = "".join([str(dict(row)) for row in await db.fetch("SELECT * FROM jobsd.api_token")])
    entry = await db.fetchrow("SELECT act, actor, reason, detail::text FROM jobsd.audit_log")
    _, listed, _ = await served.ask("GET", "/api/v1/tokens")
    assert (status, len(secret), secret[:6]) == (201, 49, "jobsd_")
    assert await db.fetchval("SELECT hash FROM jobsd.api_token") == hashlib.sha256(secret.encode()).digest()
    assert entry is not None and (entry["act"], entry["reason"]) == ("token_created", "for the pipeline")
    for kept in (dump, str(dict(entry)), str(listed), str(served.events)):
        assert secret not in kept and secret[6:] not in kept
    assert "token" not in listed["items"][0]


async def test_a_name_is_given_once_and_never_again(served: Site) -> None:
    await made(served)
    await served.ask("DELETE", "/api/v1/tokens/ci?reason=leaked")

    status, body = await made(served)

    assert (status, body["code"]) == (409, "E0526")


@pytest.mark.req("A7", "B9")
async def test_revoking_is_audited_once_and_done_again_changes_nothing(served: Site, db: Db) -> None:
    await made(served)

    first, gone, _ = await served.ask("DELETE", "/api/v1/tokens/ci?reason=leaked")
    second, again, _ = await served.ask("DELETE", "/api/v1/tokens/ci")
    unknown, body, _ = await served.ask("DELETE", "/api/v1/tokens/nobody")

    acts = await db.fetch("SELECT act, reason FROM jobsd.audit_log ORDER BY at")
    assert (first, second, gone) == (200, 200, again)
    assert [tuple(act) for act in acts] == [("token_created", None), ("token_revoked", "leaked")]
    assert (unknown, body["code"]) == (404, "E0523")


@pytest.mark.parametrize(
    "body",
    [
        {"name": "Upper"},
        {"name": "a" * 64},
        {"name": "a\n"},
        {"name": ""},
        {"scope": "root"},
        {"expires": "0d"},
        {"expires": "soon"},
        {"expires": 90},
        {"expires": "9999w"},
        {"surprise": 1},
    ],
)
async def test_a_token_that_is_asked_for_wrongly_is_not_made(served: Site, db: Db, body: dict[str, Any]) -> None:
    status, answer = await made(served, **body)

    assert (status, answer["code"]) == (422, "E0507")
    assert await db.fetchval("SELECT count(*) FROM jobsd.api_token") == 0


async def test_tokens_come_page_by_page_with_what_became_of_them(served: Site, db: Db) -> None:
    for number in range(5):
        await token(db, "read", f"t{number}")

    _, first, _ = await served.ask("GET", "/api/v1/tokens?limit=3")
    _, second, _ = await served.ask("GET", f"/api/v1/tokens?limit=3&cursor={first['cursor']}")

    assert [each["name"] for each in (*first["items"], *second["items"])] == ["t0", "t1", "t2", "t3", "t4"]
    assert second["cursor"] is None


async def test_that_a_token_was_used_is_written_at_most_once_a_minute(served: Site, db: Db) -> None:
    secret = await token(db, "read")
    used = "SELECT last_used_at FROM jobsd.api_token"

    before = await db.fetchval(used)
    await asyncio.gather(*(served.ask("GET", "/api/v1/runs", tcp=True, headers=bearer(secret)) for _ in range(8)))
    first = await db.fetchval(used)
    await served.ask("GET", "/api/v1/runs", tcp=True, headers=bearer(secret))
    second = await db.fetchval(used)
    await db.execute("UPDATE jobsd.api_token SET last_used_at = now() - interval '61 s'")
    await served.ask("GET", "/api/v1/runs", tcp=True, headers=bearer(secret))

    assert before is None
    assert first == second is not None
    assert await db.fetchval(used) > first


FORBIDDEN = [
    "UPDATE jobsd.api_token SET scope = 'admin'",
    "UPDATE jobsd.api_token SET expires_at = NULL",
    "UPDATE jobsd.api_token SET hash = sha256('x')",
    "UPDATE jobsd.api_token SET name = 'other'",
    "DELETE FROM jobsd.api_token",
    "TRUNCATE jobsd.api_token",
]


@pytest.mark.parametrize("statement", FORBIDDEN)
@pytest.mark.req("P10")
@pytest.mark.fault(39)
async def test_the_database_lets_nobody_change_what_a_token_is(db: Db, statement: str) -> None:
    await token(db, "read")

    with pytest.raises(Exception, match="a token is revoked"):
        await db.execute(statement)


@pytest.mark.req("P10")
async def test_the_database_lets_nobody_bring_a_revoked_token_back(db: Db) -> None:
    await token(db, "read")
    await db.execute(GONE)

    with pytest.raises(Exception, match="a revoked token stays revoked"):
        await db.execute("UPDATE jobsd.api_token SET revoked_at = NULL, revoked_by = NULL")
