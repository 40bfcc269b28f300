"""Packs over HTTP: any pack is served by what it declares, its actions to those whose scope reaches them."""

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobsd.domain.scope import Scope
from jobsd.operations import tokens
from jobsd.operations.tokens import TokenRequest
from jobsd.registry.load import Registry
from jobsd.store.db import Db
from tests.support.pack import SHELF, build
from tests.support.web import Site, site

BOOKS = "/api/v1/packs/shelf/books"


@pytest.fixture
async def shelf(db: Db, registry: Registry) -> AsyncIterator[Site]:
    await build(db)
    async with site(db, registry, packs=lambda: [SHELF]) as here:
        yield here


async def bearer(db: Db, scope: Scope) -> dict[str, str]:
    made = await tokens.create(db, TokenRequest(name=f"a-{scope}", scope=scope), "test")
    return {"Authorization": f"Bearer {made.token}"}


async def test_the_packs_are_listed_with_what_they_offer(shelf: Site) -> None:
    status, found, _ = await shelf.ask("GET", "/api/v1/packs")

    (pack,) = found["items"]
    assert (status, pack["name"], pack["title"]) == (200, "shelf", "Shelf")
    assert [view["name"] for view in pack["views"]] == ["books", "writes"]
    assert [(action["name"], action["scope"]) for action in pack["actions"]][:2] == [
        ("lend", "trigger"),
        ("burn", "admin"),
    ]


async def test_a_view_is_read_page_by_page_with_its_filters_kept(shelf: Site) -> None:
    seen: list[int] = []
    path: str | None = f"{BOOKS}?since=2026-01-02&limit=3"
    while path:
        status, page, headers = await shelf.ask("GET", path)
        assert status == 200
        seen += [row["id"] for row in page["items"]]
        link = re.fullmatch(r'<(.*)>; rel="next"', headers.get("Link", ""))
        assert (link is None) == (page["cursor"] is None)
        path = link[1] if link else None

    assert seen == [5, 4, 3, 2]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/v1/packs/shelv/books", 404, "E0521"),
        ("/api/v1/packs/shelf/bocks", 404, "E0521"),
        (f"{BOOKS}?titel=Emma", 422, "E0507"),
        (f"{BOOKS}?since=soon", 422, "E0507"),
        (f"{BOOKS}?title=a&title=b", 422, "E0507"),
        (f"{BOOKS}?title=a%00b", 422, "E0507"),
        (f"{BOOKS}?limit=0", 422, "E0507"),
        (f"{BOOKS}?cursor=x", 422, "E0507"),
    ],
)
async def test_what_cannot_be_meant_is_refused(shelf: Site, path: str, status: int, code: str) -> None:
    answered, body, _ = await shelf.ask("GET", path)

    assert (answered, body["code"]) == (status, code)


@pytest.mark.req("A7")
async def test_an_act_answers_its_result_and_is_audited_with_its_caller(shelf: Site, db: Db) -> None:
    body = {"params": {"book": 2, "to": "bob"}, "reason": "asked nicely"}

    status, done, _ = await shelf.ask("POST", "/api/v1/packs/shelf/lend", body)

    entry = await db.fetchrow("SELECT act, actor, reason FROM jobsd.audit_log")
    assert (status, done["action"], done["result"]["title"]) == (200, "shelf.lend", "Bread")
    assert entry is not None
    assert (entry["act"], entry["actor"], entry["reason"]) == ("shelf.lend", done["result"]["by"], "asked nicely")


@pytest.mark.parametrize(
    ("action", "params", "status", "code"),
    [
        ("lend", {"book": 9, "to": "bob"}, 409, "E0522"),
        ("lend", {"book": 1, "to": "bob"}, 409, "E0522"),
        ("lend", {"book": "one"}, 422, "E0504"),
        ("lent", {}, 404, "E0521"),
        ("burn", {}, 500, "E0512"),
    ],
)
async def test_an_act_that_cannot_be_done_says_why(
    shelf: Site, action: str, params: dict[str, Any], status: int, code: str
) -> None:
    answered, body, _ = await shelf.ask("POST", f"/api/v1/packs/shelf/{action}", {"params": params})

    assert (answered, body["code"]) == (status, code)


@pytest.mark.parametrize(
    ("scope", "action", "status"),
    [
        (Scope.READ, "lend", 403),
        (Scope.TRIGGER, "lend", 200),
        (Scope.TRIGGER, "slip_away", 403),
        (Scope.OPERATE, "burn", 403),
        (Scope.ADMIN, "burn", 500),
    ],
)
async def test_an_act_takes_the_scope_that_it_declares(
    shelf: Site, db: Db, scope: Scope, action: str, status: int
) -> None:
    params = {"book": 2, "to": "bob"} if action == "lend" else {}
    headers = await bearer(db, scope)

    answered, body, _ = await shelf.ask(
        "POST", f"/api/v1/packs/shelf/{action}", {"params": params}, tcp=True, headers=headers
    )

    assert answered == status
    assert status != 403 or body["code"] == "E0411"
    assert await db.fetchval("SELECT count(*) FROM shelf.book") == 5
