"""`jobsd.sdk.testing`: jobs run as in earnest, by the test's clock, and nothing of it stays."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsd.domain.errors import JobsdError
from jobsd.handlers import HandlerError
from jobsd.sdk.testing import JobTest, job_test
from tests.sdk.conftest import named, notes

AT = datetime(2031, 5, 6, 7, 8, tzinfo=UTC)


async def test_a_job_runs_by_the_tests_clock_and_writes_into_the_tests_transaction(t: JobTest) -> None:
    ended = await t.run(named("write"), {"text": "hi"}, at=AT)

    assert (ended.state, ended.outcome, ended.attempt, ended.over) == ("completed", "completed", 1, True)
    assert ended.result == {"text": "hi", "now": AT.isoformat(), "own": True, "slot": None}
    assert await notes(t) == ["hi"]


@pytest.mark.req("B9")
async def test_the_run_is_recorded_as_in_earnest(t: JobTest) -> None:
    ended = await t.run(named("write"), at=AT, slot_at=AT, tags={"language": "fr"})

    acts = await t.connection.fetch("SELECT act FROM jobsd.audit_log WHERE run = $1 ORDER BY sequence", ended.run_id)
    run = await t.connection.fetchrow("SELECT * FROM jobsd.runs WHERE id = $1", ended.run_id)
    assert [row["act"] for row in acts] == ["queued", "started", "completed"]
    assert (run["job"], run["state"], run["slot_at"], run["started_at"]) == ("write", "completed", AT, AT)
    assert (run["tags"], run["attempts"], run["node"]) == ('{"language": "fr"}', 1, None)


@pytest.mark.req("B8")
async def test_a_failure_is_told_word_for_word_with_what_the_job_said_before(t: JobTest) -> None:
    ended = await t.run(named("tell"))

    assert (ended.state, ended.error_kind, ended.alert) == ("failed", "RuntimeError", "JOB_FAILED")
    assert ended.error is not None
    assert ended.error.startswith("RuntimeError: no further\n\nTraceback")
    assert [(said.level, said.text) for said in ended.messages] == [("info", "begun"), ("warning", "halfway")]
    assert ended.progress == ((0.5, "half"),)
    assert await notes(t) == []


@pytest.mark.req("B4", "F2")
async def test_declared_retries_come_at_their_times(t: JobTest) -> None:
    retry = {"attempts": 2, "backoff": "exponential", "base": "10s", "cap": "1m"}

    first = await t.run({"handler": named("flaky"), "retry": retry}, at=AT)
    last = await t.until_over()

    assert (first.state, first.outcome, first.due_at, first.retries) == (
        "queued",
        "failed",
        AT + timedelta(seconds=10),
        1,
    )
    assert (last.state, last.attempt, last.retries) == ("completed", 3, 2)
    assert last.result == (AT + timedelta(seconds=10 + 20)).isoformat() == t.now.isoformat()


@pytest.mark.req("P8")
async def test_without_a_declared_retry_a_failure_is_final(t: JobTest) -> None:
    ended = await t.run(named("flaky"))

    assert (ended.state, ended.due_at) == ("failed", None)
    assert await t.until_over() == ended


@pytest.mark.parametrize(
    ("name", "state", "outcome", "error"),
    [("cancel", "cancelled", "cancelled", "nobody needs it"), ("give_up", "failed", "failed", "it will never work")],
)
async def test_a_job_that_steers_ends_its_run(t: JobTest, name: str, state: str, outcome: str, error: str) -> None:
    ended = await t.run({"handler": named(name), "retry": {"attempts": 3}})

    assert (ended.state, ended.outcome, ended.retries) == (state, outcome, 0)
    assert ended.error is not None
    assert error in ended.error


async def test_a_job_that_asks_for_later_is_run_later_and_uses_no_retry(t: JobTest) -> None:
    first = await t.run(named("later"), at=AT)
    last = await t.until_over()

    assert (first.outcome, first.due_at) == ("deferred", AT + timedelta(hours=3))
    assert (last.state, last.result, last.retries, t.now) == ("completed", 2, 0, AT + timedelta(hours=3))


async def test_a_run_that_is_never_over_is_given_up_on(t: JobTest) -> None:
    await t.run({"handler": named("give_up"), "retry": {"attempts": 5}})
    await t.run({"handler": named("flaky"), "retry": {"attempts": 5}})

    with pytest.raises(RuntimeError, match="the run is not over after 1 more attempts"):
        await t.until_over(most=1)


@pytest.mark.req("P9")
async def test_a_jobs_own_transaction_completes_its_run_with_its_result(t: JobTest) -> None:
    ended = await t.run(named("once"), {"text": "kept"})

    assert (ended.state, ended.result, await notes(t)) == ("completed", {"wrote": "kept"}, ["kept"])
    acts = await t.connection.fetch("SELECT act FROM jobsd.audit_log WHERE run = $1 ORDER BY sequence", ended.run_id)
    assert [row["act"] for row in acts] == ["queued", "started", "completed"]


@pytest.mark.req("P9")
async def test_a_jobs_own_transaction_that_fails_leaves_nothing_and_the_run_failed(t: JobTest) -> None:
    ended = await t.run(named("once"), {"text": "bad"})

    assert (ended.state, ended.error_kind, await notes(t)) == ("failed", "ValueError", [])


@pytest.mark.req("D2")
async def test_steps_and_signs_of_life_are_seen(t: JobTest) -> None:
    ended = await t.run(named("steps"))

    assert [share for share, _ in ended.progress][-1] == 1.0
    assert (0.125, "") in ended.progress
    assert ended.heartbeats == 1


@pytest.mark.req("B2")
async def test_an_atomic_job_may_not_show_progress_here_either(t: JobTest) -> None:
    ended = await t.run({"handler": named("steps"), "atomic": True})

    assert (ended.state, ended.error_kind) == ("failed", "ProgressRefused")


async def test_a_plain_function_runs_in_a_thread_with_the_same_transaction(t: JobTest) -> None:
    ended = await t.run({"handler": named("plain"), "isolation": "process"}, {"text": "plain"})

    assert (ended.state, ended.result) == ("completed", {"thread": True, "dry": False})
    assert ([said.text for said in ended.messages], ended.progress) == (["from a thread"], ((0.25, "a quarter"),))
    assert await notes(t) == ["plain"]


@pytest.mark.req("A8")
async def test_a_dry_run_does_nothing_but_what_honours_it(t: JobTest) -> None:
    skipped = await t.run(named("write"), dry_run=True)
    honoured = await t.run(named("plain"), dry_run=True)

    assert skipped.result["dry_run"] is True
    assert (honoured.state, await notes(t)) == ("completed", [])


@pytest.mark.req("C3")
async def test_a_job_that_takes_too_long_is_ended(t: JobTest) -> None:
    ended = await t.run({"handler": named("hang"), "timeout": "100ms"})

    assert (ended.state, ended.outcome) == ("failed", "timed_out")


async def test_commands_and_sql_run_too(t: JobTest) -> None:
    command = await t.run({"command": ["sh", "-c", "echo $JOBSD_PARAMS; exit 3"]}, {"n": 1})
    sql = await t.run({"name": "counting", "sql": "INSERT INTO note VALUES ('sql') RETURNING text"})
    wrong = await t.run({"sql": "SELEC 1"})

    assert (command.state, command.error_kind) == ("failed", "exit")
    assert (sql.state, sql.result, await notes(t)) == ("completed", {"rows": 1, "first": [{"text": "sql"}]}, ["sql"])
    assert wrong.error is not None
    assert "syntax error" in wrong.error


async def test_what_cannot_be_is_told_before_anything_runs(t: JobTest) -> None:
    with pytest.raises(HandlerError, match='did you mean "write"'):
        await t.run(named("wriet"))
    with pytest.raises(JobsdError, match=r"E0504.*txt: there is no such parameter"):
        await t.run(named("write"), {"txt": "x"})
    with pytest.raises(ValueError, match="expected an instant with its time zone"):
        await t.run(named("write"), at=datetime(2026, 1, 1))
    with pytest.raises(RuntimeError, match="nothing has run yet"):
        await t.until_over()

    assert await t.connection.fetchval("SELECT count(*) FROM jobsd.run") == 0


async def test_a_schema_that_is_behind_is_refused(empty_database_url: str) -> None:
    with pytest.raises(JobsdError, match="E0305"):
        async with job_test(empty_database_url):
            raise AssertionError("it must not begin")


async def test_runs_follow_each_other_in_one_test(t: JobTest) -> None:
    first = await t.run(named("write"), {"text": "a"}, at=AT)
    t.advance(timedelta(days=1))
    second = await t.run(named("write"), {"text": "b"})

    assert (first.result["now"], second.result["now"]) == (AT.isoformat(), (AT + timedelta(days=1)).isoformat())
    assert await notes(t) == ["a", "b"]
