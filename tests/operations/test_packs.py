"""Packs' views and actions: what is read, what is refused, and that an act and its audit entry are one."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from jobsd import handlers
from jobsd.domain.errors import JobsdError
from jobsd.operations import packs
from jobsd.operations.packs import ActRequest
from jobsd.sdk import Column, Pack, View
from jobsd.store.db import Db, Row, Unavailable
from tests.support.pack import BOOKS, SHELF, build

ALICE = "unix:alice"


@pytest.fixture
async def shelf(db: Db) -> AsyncIterator[Db]:
    await build(db)
    yield db


def view(name: str) -> View:
    return packs.view_of([SHELF], "shelf", name)


async def act(db: Db, name: str, **params: Any) -> Any:
    action = packs.action_of([SHELF], "shelf", name)
    return (await packs.act(db, "shelf", action, ActRequest(params=params, reason="spring"), ALICE)).result


async def audited(db: Db) -> list[Row]:
    return await db.fetch("SELECT act, actor, reason, detail FROM jobsd.audit_log")


async def lent(db: Db) -> list[int]:
    return [row["id"] for row in await db.fetch("SELECT id FROM shelf.book WHERE lent_to IS NOT NULL")]


async def titles(db: Db, **asked: str) -> list[str]:
    return [row["title"] for row in (await packs.rows(db, BOOKS, asked, 50)).items]


def test_what_there_is_is_told_with_the_schema_of_its_parameters() -> None:
    (found,) = packs.listing([SHELF]).items

    (first, *_), (lend, *_) = found.views, found.actions
    assert (found.name, first.name, [column.kind for column in first.columns][:4]) == (
        "shelf",
        "books",
        ["integer", "text", "text", "number"],
    )
    assert [fit.model_dump() for fit in first.actions] == [{"action": "lend", "params": {"book": "id"}, "when": "here"}]
    assert (lend.scope, lend.params["required"], lend.params["properties"]["book"]["minimum"]) == (
        "trigger",
        ["book", "to"],
        1,
    )


async def test_a_view_gives_typed_rows_in_the_order_of_its_key(shelf: Db) -> None:
    found = await packs.rows(shelf, BOOKS, {}, 50)

    assert [row["title"] for row in found.items] == ["Emma", "Dune", "Cats", "Bread", "Atlas"]
    assert found.items[-1] == {
        "id": 1,
        "title": "Atlas",
        "lent_to": None,
        "weight_g": 2500.5,
        "bought": "2026-01-01",
        "seen_at": "2026-03-01T12:00:00+00:00",
        "facts": {"pages": 300},
        "here": True,
    }
    assert ([column.title for column in found.columns][2:4], found.cursor) == (["reader", "weight g"], None)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
async def test_its_pages_have_each_row_once_also_where_keys_begin_alike(shelf: Db, size: int) -> None:
    seen, cursor = [], None
    while True:
        page = await packs.rows(shelf, BOOKS, {"since": "2026-01-02"}, size, cursor)
        seen += [row["id"] for row in page.items]
        if (cursor := page.cursor) is None:
            break

    assert seen == [5, 4, 3, 2]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"title": "Dune"}, ["Dune"]),
        ({"title": "'; DROP TABLE shelf.book; --"}, []),
        ({"here": "false"}, []),
        ({"since": "2026-01-03"}, ["Emma", "Dune"]),
        ({"heavier": "300"}, ["Emma", "Dune", "Atlas"]),
        ({"heavier": "300", "since": "2026-01-02"}, ["Emma", "Dune"]),
        ({"until": "2026-03-01T13:00:00+02:00"}, []),
        ({"id": "3"}, ["Cats"]),
    ],
)
async def test_filters_narrow_it_by_values_of_their_columns_type(
    shelf: Db, asked: dict[str, str], found: list[str]
) -> None:
    assert await titles(shelf, **asked) == found


async def test_filters_that_do_not_fit_are_told_all_at_once(shelf: Db) -> None:
    with pytest.raises(JobsdError) as refused:
        await titles(shelf, tittle="Dune", since="tomorrow", id=str(2**63))

    assert [(each.code, each.message.split(", got")[0], each.hints) for each in refused.value.problems] == [
        ("E0507", "tittle: there is no such filter", ('did you mean "title"?',)),
        ("E0507", "since: expected a valid date or datetime, input is too short", ()),
        ("E0507", f"id: expected less than {2**63}", ()),
    ]


@pytest.mark.parametrize("cursor", ["nonsense", "WyJydW5zIiw1XQ", "WyJ2aWV3IGJvb2tzIiwiWzFdIl0"])
async def test_a_cursor_of_another_list_is_refused(shelf: Db, cursor: str) -> None:
    with pytest.raises(JobsdError, match=r"E0507.*the cursor is not one of this list"):
        await packs.rows(shelf, BOOKS, {}, 50, cursor)


async def test_a_view_cannot_write(shelf: Db) -> None:
    with pytest.raises(Unavailable, match="cannot execute nextval\\(\\) in a read-only transaction"):
        await packs.rows(shelf, view("writes"), {}, 50)


async def test_a_view_that_takes_too_long_is_ended_by_the_statement_timeout(database_url: str) -> None:
    slow = View("slow", "Slow", "SELECT 1 AS id FROM pg_sleep(60)", (Column("id", "integer"),), ("id",))

    async with Db.open(database_url, statement_timeout_s=0.2) as hurried:
        with pytest.raises(Unavailable, match="canceling statement due to statement timeout"):
            await packs.rows(hurried, slow, {}, 50)


@pytest.mark.parametrize(
    ("pack", "name", "told"),
    [
        ("shelv", "books", 'there is no pack named "shelv"\n  did you mean "shelf"?'),
        ("shelf", "boks", 'there is no view of "shelf" named "boks"\n  did you mean "books"?'),
        ("shelf", "zzz", 'there is no view of "shelf" named "zzz"\n  there is: books, writes'),
    ],
)
def test_what_is_not_there_is_answered_with_what_is_meant(pack: str, name: str, told: str) -> None:
    with pytest.raises(JobsdError) as refused:
        packs.view_of([SHELF], pack, name)

    assert str(refused.value) == f"error[E0521]: {told}"


@pytest.mark.req("A7")
async def test_an_act_is_done_and_audited_with_actor_and_reason(shelf: Db) -> None:
    result = await act(shelf, "lend", book=2, to="bob")

    assert result == {"title": "Bread", "by": ALICE, "because": "spring"}
    assert await lent(shelf) == [2]
    (entry,) = await audited(shelf)
    assert (entry["act"], entry["actor"], entry["reason"]) == ("shelf.lend", ALICE, "spring")


async def test_a_secret_among_its_parameters_is_not_in_the_audit(shelf: Db) -> None:
    await act(shelf, "lend", book=2, to="bob", badge="sesame")

    (entry,) = await audited(shelf)
    assert entry["detail"] == '{"params": {"to": "bob", "book": 2, "badge": "**********"}}'


@pytest.mark.parametrize(
    ("params", "why"),
    [
        ({"book": 9, "to": "bob"}, "there is no book 9"),
        ({"book": 1, "to": "bob"}, "the atlas is not lent"),
        (
            {"book": 2, "to": "nobody"},
            'new row for relation "book" violates check constraint "nobody_borrows_for_nobody"',
        ),
        (
            {"book": 2, "to": "carol"},
            'insert or update on table "book" violates foreign key constraint "only_readers_borrow"',
        ),
    ],
    ids=["its own", "a trigger's", "a constraint's", "one that is checked at the commit"],
)
async def test_a_rule_that_forbids_it_is_told_and_nothing_is_done_or_audited(
    shelf: Db, params: dict[str, Any], why: str
) -> None:
    with pytest.raises(JobsdError) as refused:
        await act(shelf, "lend", **params)

    assert str(refused.value) == f"error[E0522]: shelf.lend: {why}"
    assert (await lent(shelf), await audited(shelf)) == ([], [])


@pytest.mark.req("P11")
@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("burn", "matches are wet"),
        ("leave", "it raised SystemExit: that was that"),
        ("babble", "surrogates not allowed"),
    ],
)
async def test_a_mistake_in_its_code_undoes_all_of_it(shelf: Db, name: str, told: str) -> None:
    with pytest.raises(Exception, match=told):
        await act(shelf, name)

    assert (len(await titles(shelf)), await audited(shelf)) == (5, [])


async def test_an_act_that_takes_too_long_is_undone(shelf: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packs, "ACTION_S", 0.2)

    with pytest.raises(JobsdError, match=r"E0511.*shelf.ponder did not end within 0.2 s; nothing of it is done"):
        await act(shelf, "ponder")

    assert (len(await titles(shelf)), await audited(shelf)) == (5, [])


@pytest.mark.req("A7")
async def test_nothing_is_committed_without_its_audit_entry_even_by_an_act_that_commits_itself(shelf: Db) -> None:
    await act(shelf, "slip_away")

    assert len(await titles(shelf)) == 4
    assert [entry["act"] for entry in await audited(shelf)] == ["shelf.slip_away"]


async def test_parameters_that_do_not_fit_are_told_all_at_once(shelf: Db) -> None:
    with pytest.raises(JobsdError) as refused:
        await act(shelf, "lend", book=0, two="bob")

    assert [(each.code, each.message) for each in refused.value.problems] == [
        ("E0504", "two: there is no such parameter"),
        ("E0504", "book: expected greater than or equal to 1, got '0'"),
        ("E0504", "to: field required"),
    ]


def test_every_shipped_pack_is_listed() -> None:
    found: tuple[Pack, ...] = handlers.packs()

    assert [pack.name for pack in packs.listing(found).items] == [pack.name for pack in found]
