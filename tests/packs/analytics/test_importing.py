"""`import_events`: nothing of a set with mistakes, everything once, whatever stops it and whenever it runs."""

import asyncio
import gzip
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import asyncpg
import orjson
import pytest
from pydantic import ValidationError

from jobsd.packs.analytics.event import BadInput
from jobsd.packs.analytics.importing import CHUNK, ImportParams, import_events
from tests.packs.analytics.conftest import EXTRACT, Context, table

pytestmark = pytest.mark.req("A1", "A5")

ROW = {"course_id": "C", "learner_id": "1", "kind": "quiz_submitted", "occurred_at": "2026-03-02T12:00:00Z"}
EVENTS = "SELECT course_id, learner_id, kind, value, occurred_at FROM analytics.event ORDER BY id"


def jsonl(folder: Path, *rows: dict[str, object], name: str = "events.jsonl") -> ImportParams:
    (folder / name).write_bytes(b"".join(orjson.dumps({**ROW, **row}) + b"\n" for row in rows))
    return ImportParams(format="jsonl", folder=folder)


async def count(sql: asyncpg.Connection) -> int:
    found: int = await sql.fetchval("SELECT count(*) FROM analytics.event")
    return found


async def test_a_line_of_json_becomes_an_event(ctx: Context, sql: asyncpg.Connection, tmp_path: Path) -> None:
    at = "2026-03-02T13:00:00+01:00"
    params = jsonl(tmp_path, {"learner_id": 7, "occurred_at": at, "score": 40, "value": {"try": 2}})

    result = await import_events(ctx, params)

    (row,) = await sql.fetch(EVENTS)
    assert (result["events"], result["new"]) == (1, 1)
    assert (row["course_id"], row["learner_id"], row["kind"]) == ("C", "7", "quiz_submitted")
    assert row["occurred_at"] == datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert orjson.loads(row["value"]) == {"score": 40, "try": 2}


async def test_a_row_of_csv_becomes_the_event_that_the_same_line_of_json_becomes(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    lines = [
        "\ufeffkind,course_id,learner_id,occurred_at,score,value,id",
        'quiz_submitted,C,1,2026-03-02T12:00:00Z,39.5,"{""note"": ""a, b""\n}",',
        "enrolled,C,1,2026-03-01T00:00Z,,,",
    ]
    (tmp_path / "events.csv").write_text("\r\n".join(lines), encoding="utf-8", newline="")
    first = await import_events(ctx, ImportParams(format="csv", folder=tmp_path, source="one"))
    rows = {"score": 39.5, "value": {"note": "a, b"}}, {"kind": "enrolled", "occurred_at": "2026-03-01T01:00+01:00"}

    again = await import_events(ctx, jsonl(tmp_path, *rows).model_copy(update={"source": "one"}))

    assert (first["new"], again["events"], again["new"]) == (2, 2, 0)
    assert await count(sql) == 2


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
async def test_plain_and_gzip_files_are_read_alike(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path, name: str
) -> None:
    raw = orjson.dumps(ROW) + b"\n\n"
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)

    result = await import_events(ctx, ImportParams(format="jsonl", folder=tmp_path))

    assert (result["files"], result["new"], await count(sql)) == (1, 1, 1)


async def test_only_the_files_that_are_named_are_read(ctx: Context, sql: asyncpg.Connection, tmp_path: Path) -> None:
    jsonl(tmp_path, {"learner_id": "a"}, name="a.jsonl")
    jsonl(tmp_path, {"learner_id": "b"}, name="b.jsonl")

    await import_events(ctx, ImportParams(format="jsonl", folder=tmp_path, files=(Path("b.jsonl"),)))

    assert [row["learner_id"] for row in await sql.fetch(EVENTS)] == ["b"]


async def test_the_same_key_is_one_event_within_a_source_and_two_in_two(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    params = jsonl(tmp_path, {"id": "7"}, {"id": "7", "kind": "enrolled"})

    one = await import_events(ctx, params)
    other = await import_events(ctx, params.model_copy(update={"source": "another platform"}))

    assert (one["events"], one["new"], other["new"], await count(sql)) == (2, 1, 1, 2)


async def test_more_rows_than_a_chunk_and_a_batch_hold_all_arrive(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    rows = [{"learner_id": str(n)} for n in range(2 * CHUNK)]
    params = jsonl(tmp_path, *rows).model_copy(update={"batch": 999})

    result = await import_events(ctx, params)

    fractions = [fraction for fraction, _ in ctx.reports]
    assert (result["new"], await count(sql)) == (2 * CHUNK, 2 * CHUNK)
    assert fractions == sorted(fractions)
    assert ctx.reports[-1] == (1.0, "4,000 of 4,000 events stored, 4,000 new")


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b'{"course_id": "C"', "not valid JSON: unexpected end of data"),
        (b"[1]", "expected a JSON object"),
        (b"{}", "course_id: Field required; learner_id: Field required; kind: Field required"),
        (orjson.dumps({**ROW, "kind": "Quiz!"}), "kind: String should match pattern"),
        (orjson.dumps({**ROW, "course_id": "a\0b"}), "course_id: String should match pattern"),
        (orjson.dumps({**ROW, "value": {"a": ["\0"]}}), "value: PostgreSQL cannot store the character U+0000"),
        (orjson.dumps({**ROW, "score": 101}), "expected a score from 0 to 100"),
        (orjson.dumps({**ROW, "score": True}), "score: Input should be a valid"),
        (orjson.dumps({**ROW, "value": {"score": "80"}}), "expected a score from 0 to 100"),
        (orjson.dumps({**ROW, "occurred_at": 1772452800}), "occurred_at: expected an instant with its offset"),
        (orjson.dumps({**ROW, "occurred_at": "2026-03-02T12:00"}), "occurred_at: Input should have timezone info"),
        (
            orjson.dumps({**ROW, "occurred_at": "1815-12-10T00:00Z"}),
            "occurred_at: expected an instant from 1900 to 2199",
        ),
        (orjson.dumps({**ROW, "scroe": 1}), "scroe: Extra inputs are not permitted"),
        (b"\xff\xfe", "not UTF-8 text"),
        (b'"' + b"x" * (1 << 20), "longer than 1,048,576 bytes"),
    ],
)
async def test_a_bad_line_of_json_is_named_and_nothing_is_stored(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path, line: bytes, text: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(orjson.dumps(ROW) + b"\n" + line + b"\n")

    with pytest.raises(BadInput) as caught:
        await import_events(ctx, ImportParams(format="jsonl", folder=tmp_path))

    assert f"{tmp_path}/a.jsonl:2: {text}" in str(caught.value)
    assert await count(sql) == 0


@pytest.mark.parametrize(
    ("table_text", "text"),
    [
        ("course_id,kind,occurred_at\n", ":1: column missing: learner_id; needed: course_id, learner_id, kind"),
        ("course_id,learner_id,kind,occurred_at,extra\n", ":1: unknown column: extra; known: course_id"),
        ("course_id,learner_id,kind,occurred_at,kind\n", ":1: a column stands twice"),
        ("", ":1: column missing"),
        ("course_id,learner_id,kind,occurred_at\nC,1,enrolled\n", ":2: expected 4 columns, got 3"),
        ('course_id,learner_id,kind,occurred_at\n"C,1\n', ":2: not CSV: unexpected end of data"),
        (
            "course_id,learner_id,kind,occurred_at,score\nC,1,enrolled,2026-03-02T00:00Z,high\n",
            ':2: expected a score from 0 to 100, got "high"',
        ),
        ("course_id,learner_id,kind,occurred_at\nC,,enrolled,2026-03-02T00:00Z\n", ":2: learner_id: Field required"),
    ],
)
async def test_a_bad_table_is_named_and_nothing_is_stored(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path, table_text: str, text: str
) -> None:
    (tmp_path / "a.csv").write_text(table_text)

    with pytest.raises(BadInput) as caught:
        await import_events(ctx, ImportParams(format="csv", folder=tmp_path))

    assert f"{tmp_path}/a.csv{text}" in str(caught.value)
    assert await count(sql) == 0


async def test_all_mistakes_of_all_files_are_told_at_once_up_to_twenty(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    jsonl(tmp_path, {}, {"score": 200}, name="a.jsonl")
    jsonl(tmp_path, *[{"score": -1}] * 30, name="b.jsonl")

    with pytest.raises(BadInput) as caught:
        await import_events(ctx, ImportParams(format="jsonl", folder=tmp_path))

    lines = str(caught.value).splitlines()
    assert lines[:3] == [
        "nothing was imported:",
        f"{tmp_path}/a.jsonl:2: expected a score from 0 to 100",
        f"{tmp_path}/b.jsonl:1: expected a score from 0 to 100",
    ]
    assert (len(lines), lines[-1], await count(sql)) == (22, "and 11 more", 0)


@pytest.mark.parametrize(
    ("name", "old", "new", "text"),
    [
        (
            "studentInfo.csv",
            '"AAA","2013J","28400"',
            '"ZZZ","2013J","28400"',
            ':3: no course "ZZZ/2013J" in courses.csv',
        ),
        ("studentInfo.csv", '"Pass"', '"Passed"', ":2: expected a final result of Pass, Distinction, Fail, Withdrawn"),
        (
            "studentAssessment.csv",
            "1752,11391,18,0,78",
            "1752,11391,18,0,178",
            ':2: expected a score from 0 to 100, got "178"',
        ),
        ("studentAssessment.csv", "1752,11391,", "99,11391,", ':2: no assessment "99" in assessments.csv'),
        (
            "studentAssessment.csv",
            "1752,11391,18",
            "1752,11391,soon",
            ':2: expected a whole number of days, got "soon"',
        ),
        ("studentRegistration.csv", '"11391"', '"Ann"', ':2: expected a number as id, got "Ann"'),
        ("studentRegistration.csv", "date_registration", "registered", ":1: column missing: date_registration"),
        ("courses.csv", '"2013J"', '"2013K"', ":2: expected a module and a presentation"),
        ("assessments.csv", '"TMA"', '"TNA"', ":2: expected an assessment of type CMA, TMA, Exam"),
    ],
)
async def test_a_bad_row_of_the_oulad_set_is_named_and_nothing_is_stored(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path, name: str, old: str, new: str, text: str
) -> None:
    for path in EXTRACT.glob("*.csv.gz"):
        content = gzip.decompress(path.read_bytes()).decode()
        changed = content.replace(old, new, 1) if path.name == f"{name}.gz" else content
        (tmp_path / path.name.removesuffix(".gz")).write_text(changed)

    with pytest.raises(BadInput) as caught:
        await import_events(ctx, ImportParams(format="oulad", folder=tmp_path))

    assert f"{tmp_path}/{name}{text}" in str(caught.value)
    assert await count(sql) == 0


async def test_a_damaged_gzip_file_is_named(ctx: Context, tmp_path: Path) -> None:
    raw = gzip.compress(b"".join(orjson.dumps({**ROW, "id": str(n)}) + b"\n" for n in range(1000)))
    (tmp_path / "cut.jsonl.gz").write_bytes(raw[:-20])

    with pytest.raises(BadInput, match=r"cut\.jsonl\.gz: cannot be read after line \d+: Compressed file ended"):
        await import_events(ctx, ImportParams(format="jsonl", folder=tmp_path))


@pytest.mark.parametrize(
    ("params", "text"),
    [
        ({"format": "jsonl", "folder": "no/such"}, r'folder "no/such" does not exist \(looked in /'),
        ({"format": "jsonl", "folder": __file__}, "is not a folder"),
        ({"format": "jsonl", "folder": str(EXTRACT)}, r"has no file that ends in \.jsonl or \.jsonl\.gz"),
        ({"format": "csv", "folder": str(EXTRACT), "files": ["x.csv", "y.csv"]}, "no such file: .*x.csv, .*y.csv"),
        (
            {"format": "oulad", "folder": str(EXTRACT), "files": ["courses.csv.gz"]},
            "the OULAD set lacks assessments.csv, ",
        ),
    ],
)
async def test_what_is_not_there_is_told(ctx: Context, params: dict[str, object], text: str) -> None:
    with pytest.raises(BadInput, match=text):
        await import_events(ctx, ImportParams.model_validate(params))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"format": "xml"},
        {"format": "csv", "rebase": "soon"},
        {"format": "csv", "fles": []},
        {"format": "csv", "rebase": "1815-12-10"},
    ],
)
def test_parameters_that_make_no_sense_are_refused(params: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ImportParams.model_validate(params)


async def test_rebase_moves_all_dates_by_whole_days_so_that_the_latest_is_today(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    rows = [{"occurred_at": "2026-03-02T12:00:00Z"}, {"occurred_at": "2026-02-28T23:00:00Z"}]
    params = jsonl(tmp_path, *rows).model_copy(update={"rebase": True})
    days = "SELECT (now() AT TIME ZONE 'UTC')::date"
    days_before = await sql.fetchval(days)

    result = await import_events(ctx, params)

    latest, earliest = [row["occurred_at"] for row in await sql.fetch(EVENTS)]
    assert days_before <= latest.date() <= await sql.fetchval(days)
    assert latest - earliest == timedelta(days=1, hours=13)
    assert (latest.hour, result["shift_days"]) == (12, (latest.date() - date(2026, 3, 2)).days)


async def test_a_rebased_import_on_another_day_adds_none_and_brings_what_is_new_by_the_same_shift(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    first = jsonl(tmp_path, {"id": "1"}).model_copy(update={"rebase": date(2026, 5, 1)})
    await import_events(ctx, first)
    jsonl(tmp_path, {"id": "1"}, {"id": "2", "occurred_at": "2026-03-03T12:00:00Z"})

    later = await import_events(ctx, first.model_copy(update={"rebase": date(2026, 5, 9)}))

    assert (later["new"], later["shift_days"]) == (1, 60)
    assert [row["occurred_at"].date() for row in await sql.fetch(EVENTS)] == [date(2026, 5, 1), date(2026, 5, 2)]
    assert ctx.messages == ["some of these events are stored already, moved by 60 days: the others are moved alike"]


@pytest.mark.req("C4")
@pytest.mark.parametrize("end", ["cancelled", "its session is cut"])
async def test_an_import_that_is_stopped_leaves_whole_batches_and_the_next_one_completes(
    ctx: Context, sql: asyncpg.Connection, end: str
) -> None:
    params = ImportParams(format="oulad", folder=EXTRACT, batch=1000, rebase=date(2026, 5, 1))

    async def stop_halfway(fraction: float) -> None:
        if fraction > 0.75 and end == "cancelled":
            raise asyncio.CancelledError
        if fraction > 0.75:
            await sql.fetchval("SELECT pg_terminate_backend($1, 5000)", ctx.backends[-1])

    ctx.on_progress = stop_halfway
    cut = (asyncpg.PostgresConnectionError, asyncpg.InterfaceError, asyncpg.InternalClientError)  # as far as it is told
    with pytest.raises((asyncio.CancelledError, *cut)):
        await import_events(ctx, params)

    stored = await count(sql)
    result = await import_events(Context(ctx.url), params.model_copy(update={"rebase": date(2026, 5, 2)}))
    assert stored > 0
    assert stored % 1000 == 0
    assert result["new"] == result["events"] - stored
    assert await sql.fetchval("SELECT max(occurred_at)::date FROM analytics.event") == date(2026, 5, 1)
    assert await sql.fetchval("SELECT sum(events) FROM analytics.touched_day") == result["events"]


@pytest.mark.req("A8")
async def test_a_dry_run_reads_and_checks_all_says_what_is_new_and_stores_nothing(
    ctx: Context, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    await import_events(ctx, jsonl(tmp_path, {"id": "1"}))
    params = jsonl(tmp_path, {"id": "1"}, {"id": "2"}, {"id": "2"})
    before = [await table(sql, "event"), await table(sql, "touched_day")]
    ctx.dry_run = True

    result = await import_events(ctx, params)

    assert (result["dry_run"], result["events"], result["new"]) == (True, 3, 1)
    assert [await table(sql, "event"), await table(sql, "touched_day")] == before
