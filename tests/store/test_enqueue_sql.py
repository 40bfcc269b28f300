"""`jobsd.enqueue` and `jobsd.enqueue_many`: any program puts runs into the queue inside its own transaction."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import asyncpg
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsd.domain.lock_key import lock_key_of
from jobsd.store import jobs
from jobsd.store.db import Db
from jobsd.store.migrate import migrate
from jobsd.store.wake import channel
from tests.support.engine import job, registered

ENQUEUE = "SELECT jobsd.enqueue($1, $2::text::jsonb)"


async def many(db: Db, name: str, *runs: object) -> list[int]:
    rows = await db.fetch("SELECT jobsd.enqueue_many($1, $2::text::jsonb) AS id", name, orjson.dumps(runs).decode())
    return [row["id"] for row in rows]


async def refusal(call: Awaitable[object]) -> tuple[str, str]:
    """What PostgreSQL says of a call that is refused, and its hint."""
    with pytest.raises(asyncpg.PostgresError) as refused:
        await call
    return str(refused.value.args[0]), str(refused.value.hint)


@pytest.mark.req("B1", "F1", "P5")
async def test_a_run_asked_for_in_sql_is_the_run_that_the_api_would_make(db: Db) -> None:
    at = datetime(2030, 1, 1, tzinfo=UTC)
    await registered(db, job(priority="high", params={"region": "eu", "day": 1}, atomic=True))
    call = """
        SELECT jobsd.enqueue('work', '{"day": 2}', priority => 1, due_at => $1, idempotency_key => 'k',
                             tags => '{"language": "fr"}', dry_run => true, reason => 'late data')
    """

    run = await db.fetchval(call, at)

    row = await db.fetchrow("SELECT * FROM jobsd.runs")
    audit = await db.fetchrow("SELECT * FROM jobsd.audit_log")
    user = await db.fetchval("SELECT session_user")
    assert row is not None and audit is not None
    assert (row["id"], row["state"], row["priority"], row["due_at"]) == (run, "queued", 1, at)
    assert orjson.loads(row["params"]) == {"region": "eu", "day": 2}
    assert (row["tags"], row["dry_run"], row["permanent"]) == ('{"language": "fr"}', True, True)
    assert (row["lock_key"], row["idempotency_key"], row["actor"]) == ("work", "k", f"sql:{user}")
    assert (audit["run"], audit["sequence"], audit["act"], audit["actor"]) == (run, 1, "queued", f"sql:{user}")
    assert (audit["job"], audit["reason"]) == ("work", "late data")


@pytest.mark.req("P5")
async def test_it_takes_part_in_the_callers_transaction(db: Db) -> None:
    await registered(db, job())

    with suppress(ZeroDivisionError):
        async with db.transaction() as tx:
            await tx.fetchval(ENQUEUE, "work", "{}")
            raise ZeroDivisionError

    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit") == 0


async def test_every_node_hears_of_it_at_the_commit_and_only_of_what_is_due(db: Db) -> None:
    await registered(db, job())
    heard: asyncio.Queue[str] = asyncio.Queue()

    async with db.session() as session:
        await session.con.add_listener(channel("jobsd"), lambda *said: heard.put_nowait(str(said[3])))
        await db.fetchval("SELECT jobsd.enqueue('work', due_at => now() + interval '1 day')")
        await db.fetchval(ENQUEUE, "work", "{}")
        said = [await heard.get()]
        await db.execute("SELECT pg_notify($1, 'end')", channel("jobsd"))
        said.append(await heard.get())
        session.con.terminate()

    assert said == ["run", "end"]


async def test_what_the_job_does_not_take_is_refused_with_its_reason(db: Db) -> None:
    await registered(db, job("keyed", lock_key="course:{course_id}"))
    deep = '{"a":' * 40 + "1" + "}" * 40

    assert await refusal(db.fetchval(ENQUEUE, "nobody", "{}")) == (
        'no job named "nobody" is registered',
        "jobsd explain E0501",
    )
    assert await refusal(db.fetchval(ENQUEUE, "keyed", "{}")) == (
        'the job\'s lock key needs the parameter "course_id"',
        "jobsd explain E0504",
    )
    for params, said in [
        ("[1]", "params: expected an object"),
        (deep, "params: nested too deeply, at most 32 levels are allowed"),
        ('{"n": 1e400}', "params: a number is too large"),
    ]:
        assert await refusal(db.fetchval(ENQUEUE, "keyed", params)) == (said, "jobsd explain E0507")
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"priority": 10}, "priority: expected 0"),
        ({"priority": "high"}, "priority: expected 0"),
        ({"due_at": "2026-01-01T00:00:00"}, "due_at: expected a time"),
        ({"due_at": "infinity"}, "due_at: expected a time"),
        ({"key": ""}, "key: expected a text"),
        ({"tags": {"Big": "x"}}, "tags: expected at most 20"),
        ({"tags": {"n": 1}}, "tags: expected at most 20"),
        ({"tags": {f"t{n}": "x" for n in range(21)}}, "tags: expected at most 20"),
        ({"dry_run": 1}, "dry_run: expected true or false"),
        ({"parms": {}}, 'there is no "parms", only'),
        (7, "expected an object"),
    ],
)
async def test_one_misfit_among_many_refuses_them_all_and_names_its_place(db: Db, item: object, said: str) -> None:
    await registered(db, job())

    message, hint = await refusal(many(db, "work", {}, item, {}))

    assert message.startswith(f"1: {said}")
    assert hint == "jobsd explain E0507"
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 0


@pytest.mark.req("F1")
async def test_ten_thousand_are_stored_in_one_call_in_their_order(db: Db) -> None:
    await registered(db, job(lock_key="course:{course}"))

    ids = await many(db, "work", *({"params": {"course": n % 7}, "key": f"k{n}"} for n in range(10_000)))

    rows = await db.fetch("SELECT id, params, lock_key FROM jobsd.runs ORDER BY id")
    assert ids == [row["id"] for row in rows]
    assert [orjson.loads(row["params"])["course"] for row in rows] == [n % 7 for n in range(10_000)]
    assert {row["lock_key"] for row in rows} == {f"course:{n}" for n in range(7)}
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit WHERE act = 'queued'") == 10_000
    assert (await refusal(many(db, "work", *({} for _ in range(10_001)))))[0].startswith("runs: expected a list")


async def test_of_nothing_nothing_comes(db: Db) -> None:
    await registered(db, job(max_active=1))

    assert await many(db, "work") == []
    assert await db.fetchval("SELECT jobsd.enqueue('work', NULL, tags => NULL, dry_run => NULL)") == 1


@pytest.mark.req("P2")
async def test_a_key_gives_the_run_that_there_is_and_another_request_is_refused(db: Db) -> None:
    await registered(db, job())
    first, second = await many(db, "work", {"key": "a", "params": {"n": 1}}, {"key": "b"})

    again = await many(db, "work", {"key": "b"}, {"key": "c"}, {"key": "a", "params": {"n": 1}}, {"key": "c"})

    assert again[0] == second
    assert again[1] == again[3] not in (first, second)
    assert again[2] == first
    assert await refusal(many(db, "work", {"key": "new"}, {"key": "a", "params": {"n": 2}})) == (
        f'the idempotency key "a" belongs to run {first}, which was asked for differently',
        "jobsd explain E0507",
    )
    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 3


@pytest.mark.req("P2")
async def test_twenty_transactions_at_once_with_one_key_get_one_run(db: Db) -> None:
    await registered(db, job())

    ids = await asyncio.gather(*(many(db, "work", {"key": "k"}) for _ in range(20)))

    assert len({run for (run,) in ids}) == 1


@pytest.mark.req("D3")
async def test_max_active_holds_exactly_when_many_ask_at_once_at_any_isolation(db: Db) -> None:
    await registered(db, job(max_active=7))

    async def ask(level: str) -> None:
        async with db.session() as session:
            await session.execute(f"BEGIN ISOLATION LEVEL {level}")
            try:
                await session.fetch("SELECT count(*) FROM jobsd.run")  # takes the transaction's snapshot
                await session.fetchval(ENQUEUE, "work", "{}")
                await session.execute("COMMIT")
            except BaseException:
                await session.execute("ROLLBACK")
                raise

    calls = [ask(level) for level in ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"] * 10]
    said = [str(each) for each in await asyncio.gather(*calls, return_exceptions=True) if each is not None]

    assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE capped") == 7
    assert len(said) == 23
    assert all("may have 7 active runs" in text or "could not serialize" in text for text in said)


async def test_a_refused_bulk_says_how_many_there_is_room_for(db: Db) -> None:
    await registered(db, job(max_active=3))
    await many(db, "work", {})

    assert await refusal(many(db, "work", {}, {}, {})) == (
        "work may have 3 active runs: there is room for 2 more, 3 were asked for",
        "jobsd explain E0514",
    )
    assert len(await many(db, "work", {}, {})) == 2


async def test_it_works_in_a_schema_of_another_name(empty_database_url: str) -> None:
    await migrate(empty_database_url, "team_b")

    async with Db.open(empty_database_url, "team_b") as db:
        await registered(db, job(max_active=5, lock_key="k:{n}"))
        first = await db.fetchval("SELECT team_b.enqueue('work', '{\"n\": 1}', idempotency_key => 'k')")
        again = await db.fetchval("SELECT team_b.enqueue('work', '{\"n\": 1}', idempotency_key => 'k')")

    assert first == again


async def test_only_those_to_whom_it_is_granted_may_call_it_and_they_need_nothing_else(db: Db) -> None:
    await registered(db, job())
    role = f"app_{await db.fetchval('SELECT pg_backend_pid()')}"
    await db.execute(f"CREATE ROLE {role}")
    await db.execute(f"GRANT USAGE ON SCHEMA jobsd TO {role}")

    async with db.session() as session:
        await session.execute(f"SET ROLE {role}")
        said, _ = await refusal(session.fetchval(ENQUEUE, "work", "{}"))
        await session.execute("RESET ROLE")
        await session.execute(f"GRANT EXECUTE ON FUNCTION jobsd.enqueue TO {role}")
        await session.execute(f"SET ROLE {role}")
        run = await session.fetchval(ENQUEUE, "work", "{}")
        read, _ = await refusal(session.fetchval("SELECT count(*) FROM jobsd.run"))
        await session.execute("RESET ROLE")
        await session.execute(f"DROP OWNED BY {role}")
        await session.execute(f"DROP ROLE {role}")

    assert "permission denied for function enqueue" in said
    assert run is not None
    assert "permission denied for table run" in read


NUMBERS = st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
TEMPLATES = st.lists(
    st.sampled_from(["{a}", "{b}", "{run_id}", "{", "}", "{{a}}", "seat:", "é", "\n", "x"]), max_size=6
)


def filled(template: str, params: dict[str, Any]) -> str | None:
    try:
        return lock_key_of(template, params)
    except ValueError as error:
        return f"refused: {error}"


async def filled_in_sql(db: Db, template: str, text: str) -> str | None:
    try:
        key: str | None = await db.fetchval("SELECT jobsd.lock_key_of($1, $2::text::jsonb)", template, text)
        return key
    except asyncpg.PostgresError as error:
        return f"refused: {error.args[0]}"


def test_a_lock_keys_template_is_filled_in_alike_in_sql_and_in_python(database_url: str) -> None:
    loop = asyncio.new_event_loop()
    db = Db(database_url, "jobsd", 1, "test", 10.0)

    @settings(max_examples=400, deadline=None, database=None)
    @given(st.lists(st.tuples(TEMPLATES, st.fixed_dictionaries({}, optional={"a": JSON, "b": JSON})), max_size=4))
    def alike(cases: list[tuple[list[str], dict[str, Any]]]) -> None:
        for parts, params in cases:
            template = "".join(parts)
            text = orjson.dumps(_storable(params)).decode()
            stored = loop.run_until_complete(db.fetchval("SELECT $1::text::jsonb::text", text))
            expected = filled(template, orjson.loads(stored))
            assert loop.run_until_complete(filled_in_sql(db, template, text)) == expected

    try:
        alike()
    finally:
        loop.run_until_complete(db.close())
        loop.close()


def _storable(value: Any) -> Any:
    """What orjson writes: integers past 64 bits come as floats."""
    if isinstance(value, dict):
        return {name: _storable(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_storable(each) for each in value]
    if isinstance(value, int) and not isinstance(value, bool) and not -(2**63) <= value < 2**64:
        return float(value)
    return value


WRITTEN = st.sampled_from(["1e400", "-1e309", "1e308", "1.7e308", "1e-400", "0." + "0" * 400 + "1", "9" * 400, "1e5"])
HOSTILE = st.recursive(
    st.sampled_from(
        ["null", "true", '""', '"2026-11-22T02:30:00Z"', '"2026-02-30T00:00:00Z"', '"\\u0000"', "0", "9", "10"]
    )
    | WRITTEN,
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda parts: f"[{','.join(parts)}]")
        | st.tuples(st.sampled_from(["n", "a b", "é"]), inner).map(lambda pair: f'{{"{pair[0]}": {pair[1]}}}')
    ),
    max_leaves=4,
)
ITEMS = st.dictionaries(
    st.sampled_from(["params", "priority", "due_at", "key", "tags", "dry_run", "other"]), HOSTILE, max_size=4
).map(lambda item: "{" + ",".join(f'"{name}": {value}' for name, value in item.items()) + "}")


def test_whatever_is_taken_can_be_read_by_the_node_that_claims_it(database_url: str) -> None:
    loop = asyncio.new_event_loop()
    db = Db(database_url, "jobsd", 1, "test", 10.0)
    loop.run_until_complete(registered(db, job(lock_key="{run_id}")))

    @settings(max_examples=300, deadline=None, database=None)
    @given(st.one_of(ITEMS, HOSTILE))
    def taken(item: str) -> None:
        call = "SELECT jobsd.enqueue_many('work', ('[' || $1::text || ']')::jsonb)"
        try:
            run = loop.run_until_complete(db.fetchval(call, item))
        except asyncpg.PostgresError as refused:
            assert str(refused.sqlstate).startswith(("22", "23505")), refused
        else:
            row = loop.run_until_complete(db.fetchrow("SELECT params, tags FROM jobsd.run WHERE id = $1", run))
            assert row is not None
            assert isinstance(orjson.loads(row["params"]), dict)
            assert isinstance(orjson.loads(row["tags"]), dict)

    try:
        taken()
    finally:
        loop.run_until_complete(db.close())
        loop.close()


async def test_equal_numbers_are_one_lock_key(db: Db) -> None:
    keys = [lock_key_of("{n}", {"n": number}) for number in (100, 100.0, 1e2)]

    in_sql = [await filled_in_sql(db, "{n}", f'{{"n": {text}}}') for text in ("100", "100.00", "1e2")]

    assert keys == in_sql == ["100"] * 3


async def test_a_jobs_fixed_lock_key_is_there_before_anybody_asks(db: Db) -> None:
    await registered(db, job())

    async with db.transaction() as first:
        await first.fetchval(ENQUEUE, "work", "{}")
        await db.fetchval(ENQUEUE, "work", "{}")  # waits for nobody's key

    assert await db.fetchval("SELECT count(*) FROM jobsd.run") == 2
    assert list(await jobs.lock_keys(db, ["work"])) == ["work"]
