"""Async handlers in the loop: whatever one does, the process and the loop go on, and its outcome says what it was."""

import asyncio
import os
from typing import Any

import pytest
import uvloop

from jobsd.domain.outcome import Completed, Outcome
from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import HANDLERS, Bench, completed, failed
from tests.engine.executors.handlers import RAISED, RETURNED, waits_for

UNFIT = {
    "nan": "Out of range float values",
    "infinity": "Out of range float values",
    "nul": "U+0000",
    "surrogate": "surrogates not allowed",
    "huge": "larger than 1048576 bytes",
    "many": "larger than 1048576 bytes",
    "circle": "Circular reference",
    "deep": "nested too deeply",
    "object": "object cannot be written as JSON",
    "bytes": "bytes cannot be written as JSON",
    "integer": "Integer exceeds 64-bit range",
    "hostile": "from a serializer",
    "function": "function cannot be written as JSON",
}


async def run(bench: Bench, name: str, /, **params: Any) -> Outcome:
    return await execute(bench.execution(handler=f"{HANDLERS}:{name}", params=params))


@pytest.mark.req("P4", "C2")
async def test_a_handler_knows_its_execution_and_reports_by_its_context(bench: Bench) -> None:
    outcome = completed(await run(bench, "reports", region="us", count=5))

    assert outcome.result == {
        "job": "work",
        "run": 12,
        "attempt": 2,
        "fence": 77,
        "slot": "2026-03-01T06:30:00+00:00",
        "dry_run": False,
        "params": {"region": "us", "count": 5},
        "key": "work:run:12",
        "pid": os.getpid(),
        "rows": {"rows": 5, "params": {"region": "us", "count": 5}},
    }
    assert bench.report.told == [
        ("progress", 0.25, "a quarter"),
        ("message", "info", "so far so good"),
        ("message", "warning", "hm"),
        ("message", "error", "oh \\ud800"),
        ("progress", 1.0, "done"),
    ]


@pytest.mark.req("P11", "B8")
@pytest.mark.parametrize("what", RAISED)
@pytest.mark.fault(29)
async def test_whatever_a_handler_raises_is_a_failure_word_for_word(bench: Bench, what: str) -> None:
    outcome = failed(await run(bench, "raises", what=what))

    words = {
        "ValueError": 'ValueError: wörd\nfor "word"\n\nTraceback (most recent call last):\n',
        "StopIteration": "RuntimeError: coroutine raised StopIteration",
        "Silly": "Silly: <its text cannot be had: KeyboardInterrupt>",
        "Endless": "Endless: <its text cannot be had: RecursionError>",
    }
    assert outcome.kind == ("RuntimeError" if what == "StopIteration" else what)
    assert outcome.error.startswith(words.get(what, f"{what}: "))
    if what not in ("Silly", "Endless", "StopIteration"):
        assert 'handlers.py", line' in outcome.error
        assert "executors/python.py" not in outcome.error


@pytest.mark.req("P11")
@pytest.mark.parametrize("what", RAISED)
def test_the_daemons_own_loop_survives_it_too(what: str, tmp_path: Any) -> None:
    async def on_uvloop() -> Outcome:
        return await run(Bench(tmp_path), "raises", what=what)

    outcome = failed(uvloop.run(on_uvloop()))

    assert outcome.kind


@pytest.mark.req("P11")
@pytest.mark.fault(29)
async def test_a_recursion_without_end_is_a_failure(bench: Bench) -> None:
    outcome = failed(await run(bench, "recurses"))

    assert outcome.kind == "RecursionError"
    assert len(outcome.error) < 64 * 1024


@pytest.mark.req("P11", "B8")
@pytest.mark.fault(29)
async def test_a_huge_error_keeps_its_head_and_its_tail(bench: Bench) -> None:
    outcome = failed(await run(bench, "raises_huge"))

    assert len(outcome.error.encode()) < 66 * 1024
    assert outcome.error.startswith("RuntimeError: beginxxx")
    assert "characters are left out" in outcome.error
    assert outcome.error.endswith("xxxend")


@pytest.mark.req("P11")
@pytest.mark.parametrize("what", RETURNED)
async def test_a_result_that_cannot_be_stored_fails_the_run(bench: Bench, what: str) -> None:
    outcome = failed(await run(bench, "returns", what=what))

    assert outcome.kind == "result"
    assert UNFIT[what] in outcome.error


@pytest.mark.req("P11")
async def test_a_task_of_a_job_cannot_end_the_daemon(bench: Bench) -> None:
    outcome = completed(await run(bench, "leaves_a_task_that_exits"))

    assert outcome.result == "LeftTheJob: SystemExit: 5, LeftTheJob: KeyboardInterrupt"


@pytest.mark.req("P11")
async def test_a_handler_that_cancels_itself_has_failed(bench: Bench) -> None:
    outcome = failed(await run(bench, "cancels_itself"))

    assert outcome.kind == "CancelledError"


@pytest.mark.req("C3")
async def test_a_cancelled_handler_cleans_up_before_the_execution_is_over(bench: Bench) -> None:
    work = asyncio.create_task(run(bench, "obeys_cancellation"))
    await bench.report.heard("begun")

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert bench.report.told[-1] == ("message", "info", "cleaned up")


@pytest.mark.req("P11")
@pytest.mark.fault(23)
async def test_an_execution_that_ignores_its_cancellation_is_over_only_when_it_truly_ends(bench: Bench) -> None:
    work = asyncio.create_task(run(bench, "ignores_cancellation", name="one"))
    await bench.report.heard("begun")

    work.cancel()
    await bench.report.heard("ignored")
    still_running = not work.done()
    waits_for.pop("one").set()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert still_running


@pytest.mark.req("C3")
async def test_a_timeout_around_it_is_told_from_a_timeout_of_its_own(bench: Bench) -> None:
    own = failed(await run(bench, "raises", what="TimeoutError"))

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await run(bench, "obeys_cancellation")

    assert own.kind == "TimeoutError"


@pytest.mark.req("C2")
async def test_parameters_that_do_not_fit_fail_the_run_in_words(bench: Bench) -> None:
    outcome = failed(await run(bench, "reports", count="many"))

    assert outcome.kind == "ValidationError"
    assert "count" in outcome.error and "integer" in outcome.error


@pytest.mark.req("C2")
async def test_a_handler_that_this_node_does_not_have_fails_the_run(bench: Bench) -> None:
    outcome = failed(await run(bench, "absent"))

    assert outcome.kind == "start"
    assert f"{HANDLERS}:absent" in outcome.error


@pytest.mark.req("P4")
async def test_a_handler_in_the_loop_costs_no_process(bench: Bench) -> None:
    outcomes = await asyncio.gather(*(run(bench, "reports") for _ in range(50)))

    assert {completed(outcome).result["pid"] for outcome in outcomes} == {os.getpid()}
    assert all(isinstance(outcome, Completed) for outcome in outcomes)
