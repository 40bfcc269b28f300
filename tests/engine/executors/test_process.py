"""Handlers in a process of their own: they see and report what one in the loop does, and can be killed."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from jobsd.domain.outcome import Outcome
from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import HANDLERS, Bench, Recorder, alive, completed, failed, pids_in
from tests.engine.executors.handlers import RAISED


async def run(bench: Bench, name: str, /, isolation: str | None = None, **params: Any) -> Outcome:
    return await execute(bench.execution(handler=f"{HANDLERS}:{name}", params=params, isolation=isolation))


@pytest.mark.req("P4", "C2")
@pytest.mark.parametrize("name, isolation", [("reports_plainly", None), ("reports", "process")])
async def test_a_handler_in_its_process_knows_its_execution_and_reports(
    bench: Bench, name: str, isolation: str | None
) -> None:
    outcome = completed(await run(bench, name, isolation, region="us", count=5))

    pid = outcome.result.pop("pid")
    assert outcome.result == {
        "job": "work",
        "run": 12,
        "attempt": 2,
        "fence": 77,
        "slot": "2026-03-01T06:30:00+00:00",
        "dry_run": False,
        "params": {"region": "us", "count": 5},
        "key": "work:run:12",
        "rows": {"rows": 5, "params": {"region": "us", "count": 5}},
    }
    assert bench.report.told == [
        ("progress", 0.25, "a quarter"),
        ("message", "info", "so far so good"),
        ("message", "warning", "hm"),
        ("message", "error", "oh \\ud800"),
        ("progress", 1.0, "done"),
    ]
    assert pid != os.getpid()
    assert alive([pid]) == []


@pytest.mark.req("P11", "B8")
@pytest.mark.parametrize("what", sorted(RAISED.keys() - {"StopIteration"}))
async def test_whatever_a_plain_function_raises_is_a_failure_word_for_word(bench: Bench, what: str) -> None:
    outcome = failed(await run(bench, "raises_plainly", what=what))

    assert outcome.kind == what
    assert outcome.error.startswith(f"{what}: ")
    if what not in ("Silly", "Endless"):
        assert 'handlers.py", line' in outcome.error


@pytest.mark.req("P11")
@pytest.mark.parametrize("what", ["nan", "surrogate", "huge", "many", "circle", "deep"])
async def test_a_result_that_cannot_be_stored_fails_the_run(bench: Bench, what: str) -> None:
    outcome = failed(await run(bench, "returns_plainly", what=what))

    assert outcome.kind == "result"


@pytest.mark.req("P11", "C3")
@pytest.mark.fault(24)
async def test_a_function_blocked_in_native_code_is_killed_with_what_it_started(bench: Bench, tmp_path: Path) -> None:
    work = asyncio.create_task(run(bench, "blocks", pids=str(tmp_path / "pids")))
    await bench.report.heard("begun")
    pids = await pids_in(tmp_path / "pids", 2)

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert alive(pids) == []


@pytest.mark.req("C3")
@pytest.mark.parametrize(
    "name, isolation", [("waits_with_a_finally", None), ("obeys_cancellation", "process")], ids=["plain", "async"]
)
async def test_a_cancelled_handler_cleans_up_within_its_grace(bench: Bench, name: str, isolation: str | None) -> None:
    execution = bench.execution(handler=f"{HANDLERS}:{name}", isolation=isolation, grace="20s")
    work = asyncio.create_task(execute(execution))
    await bench.report.heard("begun")

    work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await work

    assert execution.usage.exit_code is not None  # it left by itself, it was not killed
    assert execution.usage.output == "cleaned up\n" or isolation == "process"


@pytest.mark.req("P11")
async def test_a_crash_in_native_code_harms_nobody_else(bench: Bench) -> None:
    outcome = failed(await run(bench, "crashes"))

    assert outcome.kind == "signal"
    assert outcome.error.startswith("its process was killed by SIGSEGV before the handler returned\n")
    assert "on the edge" in str(outcome.usage.output)
    assert 'handlers.py", line' in outcome.error


@pytest.mark.req("P11")
@pytest.mark.parametrize("code", [0, 3])
async def test_a_process_that_leaves_without_an_answer_has_failed(bench: Bench, code: int) -> None:
    outcome = failed(await run(bench, "leaves", code=code))

    assert outcome.kind == "exit"
    assert outcome.error == f"its process exited with {code} before the handler returned\nleaving"


@pytest.mark.req("P4")
async def test_the_process_sees_neither_secrets_nor_parameters_but_the_daemons_modules(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "canary-1")
    monkeypatch.setenv("API_TOKEN", "canary-2")
    bench.url = "canary-3"

    outcome = completed(await run(bench, "shows_its_surroundings", secret="canary-4"))

    shown = outcome.result
    assert "canary" not in str(shown)
    assert shown["env"]["JOBSD_FENCE"] == "77"
    assert shown["env"]["JOBSD_RUN_ID"] == "12"
    assert shown["path"] == [str(entry) for entry in sys.path]
    assert outcome.usage.output == "to stdout\nto stderr\n\ufffd\n"


@pytest.mark.req("P11")
async def test_progress_in_a_tight_loop_is_thinned_and_the_last_word_comes_through(bench: Bench) -> None:
    outcome = completed(await run(bench, "floods_with_progress"))

    assert outcome.result > 100
    assert len(bench.report.told) < 10
    assert bench.report.told[-1] == ("progress", 1.0, "last")


@pytest.mark.req("P11")
async def test_garbage_in_the_answers_pipe_does_no_harm(bench: Bench) -> None:
    outcome = completed(await run(bench, "garbles_its_pipe"))

    assert outcome.result == "said"


@pytest.mark.req("P11")
async def test_a_refused_report_fails_the_run_and_the_child_is_heard_out(bench: Bench) -> None:
    class Refused(Recorder):
        async def message(self, level: str, text: str) -> None:
            raise RuntimeError("the run has moved on")

    bench.report = Refused()
    execution = bench.execution(handler=f"{HANDLERS}:reports_plainly")

    outcome = failed(await execute(execution))

    assert outcome.error == "RuntimeError: the run has moved on"


@pytest.mark.req("P4")
async def test_an_async_handler_in_its_process_has_a_fenced_connection_of_its_own(
    bench: Bench, database_url: str
) -> None:
    bench.url = database_url

    outcome = completed(await run(bench, "asks_its_database", "process"))

    assert outcome.result == ["77", "jobsd job work"]


@pytest.mark.req("P11")
async def test_memory_and_cpu_of_the_process_are_accounted(bench: Bench) -> None:
    outcome = completed(await run(bench, "reports_plainly"))

    assert outcome.usage.peak_memory_bytes is not None and outcome.usage.peak_memory_bytes > 1 << 20
    assert outcome.usage.cpu_seconds is not None and outcome.usage.cpu_seconds > 0
