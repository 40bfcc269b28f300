"""The log: one JSON object a line, whatever happens, and no secret in it."""

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from jobsd.domain.events import (
    AlertTold,
    DatabaseTrouble,
    Event,
    LockSession,
    LoopBlocked,
    Noted,
    RegistryReloaded,
    RunIgnoresCancellation,
    RunRefused,
    RunsLost,
    RunStarted,
    SlotDecided,
)
from jobsd.domain.outcome import Settlement
from jobsd.domain.run import RunState
from jobsd.observe import logs
from jobsd.observe.logs import LogObserver, Redactor
from jobsd.registry.settings import LogSettings
from tests.observe.events import NOW, cancelled, claimed, completed, deferred, failed, retried

CANARY = "canary-7f3a9c-secret"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers, root.level = handlers, level
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


def logged(*events: Event, level: str = "debug", redactor: Redactor | None = None) -> list[dict[str, Any]]:
    out = io.StringIO()
    logs.setup(LogSettings(level=level, format="json"), redactor, out)  # type: ignore[arg-type]
    observe = LogObserver()
    for event in events:
        observe(event)
    return [json.loads(line) for line in out.getvalue().splitlines()]


RUN = claimed()
SETTLED = Settlement(RunState.COMPLETED, "completed", "completed")
WORDED: list[tuple[Event, str, str]] = [
    (RunStarted(RUN, 0.01), "run_started", "info"),
    (completed(RUN), "run_completed", "info"),
    (failed(RUN), "run_failed", "error"),
    (retried(RUN), "run_retry", "warning"),
    (deferred(RUN), "run_deferred", "info"),
    (cancelled(RUN), "run_cancelled", "info"),
    (RunRefused(RUN, SETTLED), "run_refused", "warning"),
    (RunIgnoresCancellation(RUN, 5.0), "run_ignores_cancellation", "error"),
    (RunIgnoresCancellation(RUN, 9.0, ended=True), "run_ended_at_last", "warning"),
    (SlotDecided("daily_report", "ran", NOW, 1, 0.01, run=42), "slot_decided", "debug"),
    (SlotDecided("daily_report", "overlap", NOW, 1, 0.01), "slot_decided", "info"),
    (SlotDecided("daily_report", "no_node", NOW, 9, 0.01), "slot_decided", "warning"),
    (LoopBlocked(0.6, "run 42 daily_report", "File x"), "loop_blocked", "error"),
    (LoopBlocked(2.6, "run 42 daily_report", "File x", over=True), "loop_resumed", "warning"),
    (LockSession("up"), "lock_session_up", "info"),
    (LockSession("lost", "connection reset", 3), "lock_session_lost", "error"),
    (LockSession("adopted"), "lock_session_adopted", "warning"),
    (LockSession("fenced", "10 s without a session", 3), "lock_session_fenced", "error"),
    (RunsLost("db1", 2, "beat stood still"), "runs_lost", "warning"),
    (RegistryReloaded(True, added=("a",)), "registry_reloaded", "info"),
    (RegistryReloaded(False, error="E0204"), "registry_rejected", "error"),
    (AlertTold("JOB_FAILED", "ops", True), "alert_told", "debug"),
    (AlertTold("JOB_FAILED", "ops", False, "refused"), "alert_not_told", "warning"),
    (DatabaseTrouble("scheduler", "connection refused"), "database_trouble", "warning"),
    (Noted("drain_began", "info", {"runs": 2, "event": "x"}), "drain_began", "info"),
]


@pytest.mark.req("C3", "A7")
@pytest.mark.parametrize(("event", "name", "level"), WORDED, ids=[f"{w[1]}-{w[2]}" for w in WORDED])
def test_each_event_is_one_line_with_a_stable_name_and_level(event: Event, name: str, level: str) -> None:
    (line,) = logged(event)

    assert (line["event"], line["level"]) == (name, level)
    assert line["at"].endswith("Z")


@pytest.mark.req("C3")
def test_start_and_end_of_a_run_carry_job_run_attempt_fence_outcome_and_the_error_word_for_word() -> None:
    started, ended = logged(RunStarted(RUN, 0.01), failed(RUN, "ValueError", "line one\nline two"))

    assert {"job": "daily_report", "run": 42, "attempt": 1, "fence": 1042}.items() <= started.items()
    assert {
        "run": 42,
        "outcome": "failed",
        "kind": "ValueError",
        "error": "line one\nline two",
    }.items() <= ended.items()


def test_lines_below_the_level_are_not_written() -> None:
    lines = logged(RunStarted(RUN, 0.01), failed(RUN), level="warning")

    assert [line["event"] for line in lines] == ["run_failed"]


@pytest.mark.req("P11")
@pytest.mark.parametrize(
    "evil", ["\x1b[2J\r\n{}", "\x9b31m", "a\u2028b", "\u202egnp.exe", "\ud800", "\x00", "x" * 100_000]
)
def test_one_event_is_one_printable_line_whatever_a_job_raises(evil: str) -> None:
    out = io.StringIO()
    logs.setup(LogSettings(format="json"), None, out)

    LogObserver()(failed(RUN, "ValueError", evil))

    text = out.getvalue()
    assert text.count("\n") == 1
    assert len(text) < 48 * 1024  # journald cuts longer lines
    assert all(char.isprintable() for char in text.rstrip("\n"))
    assert json.loads(text)["event"] == "run_failed"


def test_values_that_json_has_no_word_for_are_written_as_text() -> None:
    (line,) = logged(Noted("odd", "info", {"big": 2**80, "set": {1}, "object": object, 7: "number as key"}))

    assert line["big"] in (2**80, str(2**80))
    assert line["set"] == [1] or line["set"] == "[1]"
    assert line["7"] == "number as key"


@pytest.mark.req("P11")
def test_no_secret_is_written_in_fields_keys_errors_tracebacks_or_a_librarys_log() -> None:
    out = io.StringIO()
    logs.setup(LogSettings(level="debug", format="json"), Redactor([CANARY]), out)
    log, observe = structlog.get_logger(), LogObserver()

    try:
        raise RuntimeError(f"cannot reach postgresql://app:{CANARY}@db1/app")
    except RuntimeError as error:
        log.exception("start_failed", exc_info=error)
        logging.getLogger("some.library").exception("it says %s", CANARY)
    observe(failed(RUN, error=f"Traceback: token {CANARY!r}"))
    observe(Noted("nested", "info", {"a": [{"b": (CANARY, f"x{CANARY}y")}], f"key-of {CANARY}": 1}))
    observe(LoopBlocked(1, f"run 1 {CANARY}", f"stack {CANARY}"))
    logging.getLogger("py.warnings").warning("careful with %s", CANARY)

    assert len(out.getvalue().splitlines()) == 6
    assert CANARY not in out.getvalue()
    assert "***" in out.getvalue()


def test_the_journal_gets_a_priority_in_front_of_each_line_and_a_file_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    journal, other = (tmp_path / "journal").open("w+"), (tmp_path / "other").open("w+")
    seen = os.fstat(journal.fileno())
    monkeypatch.setenv("JOURNAL_STREAM", f"{seen.st_dev}:{seen.st_ino}")

    for stream in (journal, other):
        logs.setup(LogSettings(), None, stream)
        LogObserver()(failed(RUN))

    with journal, other:
        journal.seek(0)
        other.seek(0)
        assert journal.read().startswith('<3>{"at":')
        assert other.read().startswith('{"at":')


def test_a_terminal_gets_aligned_lines_with_the_error_below() -> None:
    out = io.StringIO()
    logs.setup(LogSettings(format="pretty"), None, out)

    LogObserver()(failed(RUN, error="first\nsecond \x1b[31m"))

    line, *below = out.getvalue().splitlines()
    assert " error    run_failed " in line
    assert "job=daily_report run=42" in line
    assert below == ["    first", r"    second \x1b[31m"]


@pytest.mark.req("P11")
def test_a_full_disk_or_a_closed_stream_loses_lines_and_raises_nothing() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    closed = io.StringIO()
    logs.setup(LogSettings(format="json"), None, Full())
    LogObserver()(completed(RUN))
    logs.setup(LogSettings(format="json"), None, closed)
    observe = LogObserver()
    closed.close()

    observe(completed(RUN))  # would raise


def test_lines_of_several_threads_do_not_mix() -> None:
    out = io.StringIO()
    logs.setup(LogSettings(format="json"), None, out)
    observe = LogObserver()
    threads = [threading.Thread(target=lambda: [observe(completed(RUN)) for _ in range(200)]) for _ in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [line["event"] for line in lines] == ["run_completed"] * 800
