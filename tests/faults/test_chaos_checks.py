"""The checker of `make faults` finds each promise broken, and nothing else, in histories made for it."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults.chaos.check import check
from tests.faults.chaos.history import Attempt, Entry, History, Line, Recorded, Run, Stretch, read
from tests.faults.chaos.overlaps import lines_after_a_thaw
from tests.faults.chaos.registry import JOBS
from tests.faults.chaos.witness import tell

START = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
FIRST, SECOND = Attempt(1, 101), Attempt(2, 102)


def line(
    word: str, attempt: Attempt, job: str = "keyed", kind: str = "command", at_s: float = 0, key: str = "k"
) -> Line:
    return Line(word, kind, job, attempt, 1, key, 7, round(at_s * 1e9))


def whole(attempt: Attempt, job: str = "keyed", kind: str = "command", key: str = "k") -> list[Line]:
    return [line(word, attempt, job, kind, key=key) for word in ("begin", "step", "end")]


def slots(job: str, every_s: int, *skipped: int, until_s: int = 60) -> list[Stretch]:
    """Of a disabled schedule, so that no run belongs to one; without those at these seconds."""
    at = [START + timedelta(seconds=second) for second in range(every_s, until_s + 1, every_s) if second not in skipped]
    return [Stretch(job, each, each, 1, "disabled") for each in at]


def sound() -> History:
    """Two runs of one key, one after the other, each of its first attempt; every slot decided."""
    runs = {a.run: Run(a.run, "keyed", "completed", a.fence, 1, 0, 3, key=f"key {a.run}") for a in (FIRST, SECOND)}
    acts = enumerate(("queued", "started", "completed"), 1)
    moves = [(sequence, act) for sequence, act in acts]
    return History(
        began_at=START,
        ended_at=START + timedelta(seconds=60),
        lines=[*whole(FIRST), *whole(SECOND)],
        runs=runs,
        recorded=[Recorded(attempt, 1, "completed") for attempt in (FIRST, SECOND)],
        entries=[Entry(run, sequence, act) for run in runs for sequence, act in moves],
        stretches=[row for job in JOBS.values() if job.every_s for row in slots(job.name, job.every_s)],
        acknowledged=[(1, "keyed", "key 1"), (2, "keyed", "key 2")],
        seen_over={1: "completed", 2: "completed"},
    )


def with_run(history: History, run: int, **changes: Any) -> History:
    return replace(history, runs={**history.runs, run: replace(history.runs[run], **changes)})


def of_job(history: History, job: str) -> History:
    """The same of another job."""
    runs = {run.id: replace(run, job=job) for run in history.runs.values()}
    return replace(history, runs=runs, lines=[replace(each, job=job) for each in history.lines])


def found(history: History) -> Mapping[str, list[str]]:
    return {name: what for name, what in check(history).items() if what}


def test_nothing_is_found_in_a_sound_history() -> None:
    assert found(sound()) == {}


ONCE_MORE = Attempt(1, 150)
BROKEN: dict[str, tuple[History, set[str]]] = {
    "a command begins while another of its key is at work": (
        replace(sound(), lines=[line("begin", FIRST), *whole(SECOND), line("end", FIRST)]),
        {"overlaps of a lock key"},
    ),
    "a grandchild outlives its run into the next of the key": (
        replace(sound(), lines=[*whole(FIRST), *whole(SECOND), line("step", FIRST, kind="grandchild")]),
        {"overlaps of a lock key"},
    ),
    "a frozen command goes on beside the second attempt at its own run": (
        replace(
            with_run(sound(), 1, attempts=2, version=5, fence=150),
            lines=[line("begin", FIRST), *whole(ONCE_MORE), line("step", FIRST), *whole(SECOND)],
            recorded=[
                Recorded(FIRST, 1, "lost"),
                Recorded(ONCE_MORE, 2, "completed"),
                Recorded(SECOND, 1, "completed"),
            ],
            entries=[
                *(
                    Entry(1, n, act)
                    for n, act in enumerate(("queued", "started", "requeued", "started", "completed"), 1)
                ),
                *(Entry(2, n, act) for n, act in enumerate(("queued", "started", "completed"), 1)),
            ],
        ),
        {"overlaps of a lock key"},
    ),
    "code in the daemon takes a second step after a thaw": (
        replace(
            sound(),
            lines=[line("begin", FIRST, kind="loop"), *whole(SECOND)]
            + [line(word, FIRST, kind="loop") for word in ("step", "step", "end")],
        ),
        {"overlaps of a lock key"},
    ),
    "three at once where two are allowed": (
        of_job(
            replace(
                sound(),
                lines=[line("begin", each, key=f"{each}") for each in (FIRST, SECOND, Attempt(2, 99))]
                + [line("end", each, key=f"{each}") for each in (FIRST, SECOND, Attempt(2, 99))],
                recorded=[*sound().recorded, Recorded(Attempt(2, 99), 1, "completed", stale=True)],
            ),
            "limited",
        ),
        {"more at once than the concurrency"},
    ),
    "an acknowledged run is gone": (
        replace(sound(), acknowledged=[*sound().acknowledged, (3, "keyed", "key 3")]),
        {"runs lost, or not over"},
    ),
    "a run never ends": (
        replace(
            with_run(sound(), 2, state="running"),
            seen_over={},
            lines=[*whole(FIRST), line("begin", SECOND)],
            recorded=sound().recorded[:1],
            entries=sound().entries[:5],
        ),
        {"runs lost, or not over", "executions not recorded", "terminal states changed"},
    ),
    "a run is completed though its execution wrote no end": (
        replace(sound(), lines=[*whole(FIRST), line("begin", SECOND)]),
        {"completed without having ended"},
    ),
    "two fences completed one run": (
        replace(
            sound(),
            recorded=[*sound().recorded, Recorded(ONCE_MORE, 2, "completed")],
        ),
        {"runs completed twice", "executions not recorded"},
    ),
    "the audit tells of a second completion": (
        replace(sound(), entries=[*sound().entries, Entry(1, 4, "completed")]),
        {"runs completed twice", "terminal states changed"},
    ),
    "a run was executed again that declares no such thing": (
        of_job(
            replace(
                sound(),
                lines=[*whole(Attempt(1, 90)), *sound().lines],
                recorded=[*sound().recorded, Recorded(Attempt(1, 90), 1, "completed", stale=True)],
            ),
            "once_command",
        ),
        {"executed again, undeclared"},
    ),
    "an execution has no record": (
        replace(sound(), lines=[*whole(Attempt(1, 90)), *sound().lines]),
        {"executions not recorded"},
    ),
    "attempts have a gap": (with_run(sound(), 1, attempts=2), {"executions not recorded"}),
    "one idempotency key made two runs": (with_run(sound(), 2, key="key 1"), {"runs doubled"}),
    "one request was answered with two runs": (
        replace(sound(), acknowledged=[(1, "keyed", "key 1"), (2, "keyed", "key 1")]),
        {"runs doubled"},
    ),
    "a slot was passed over": (
        replace(
            sound(),
            stretches=[
                row
                for row in sound().stretches
                if (row.job, row.slot_at) != ("tick_loop", START + timedelta(seconds=30))
            ],
        ),
        {"slots not decided"},
    ),
    "a schedule stood still at the end": (
        replace(sound(), ended_at=START + timedelta(seconds=63)),
        {"slots not decided"},
    ),
    "a slot is said to have run, and there is no such run": (
        replace(
            sound(),
            stretches=[
                replace(row, decision="ran", run=9) if row is sound_row else row
                for sound_row in sound().stretches[:1]
                for row in [sound_row, *sound().stretches[1:]]
            ],
        ),
        {"slots not decided"},
    ),
    "what was over is something else": (
        replace(sound(), seen_over={1: "failed", 2: "completed"}),
        {"terminal states changed"},
    ),
    "an exactly-once effect is there twice": (
        of_job(replace(sound(), effects=[FIRST, FIRST, SECOND]), "exact"),
        {"effects not exactly once"},
    ),
    "an exactly-once effect is missing": (
        of_job(replace(sound(), effects=[FIRST]), "exact"),
        {"effects not exactly once"},
    ),
    "a process was left": (replace(sound(), orphans=["4711: sleep"]), {"orphaned processes"}),
    "the audit's chain is broken": (replace(sound(), audit_verdict="seal 3"), {"audit chain broken"}),
    "a node did not recover": (replace(sound(), unwell=["red"]), {"nodes not well"}),
}


@pytest.mark.req("P1", "P2", "P3", "P4", "P5", "P8", "P9", "P10")
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_what_is_broken_is_found(broken: tuple[History, set[str]]) -> None:
    history, expected = broken

    assert set(found(history)) == expected


def test_a_result_that_was_refused_is_told_in_the_audit_and_is_no_move() -> None:
    assert found(replace(sound(), entries=[*sound().entries, Entry(1, 101, "refused")])) == {}


def test_code_in_a_daemon_that_thaws_may_take_one_step_and_that_is_counted() -> None:
    step = [line(word, FIRST, kind="loop") for word in ("step", "end")]  # with no wait between
    late = [line("begin", FIRST, kind="loop"), *whole(SECOND), *step]
    history = replace(sound(), lines=late)

    assert found(history) == {}
    assert lines_after_a_thaw(history) == [2]


def test_a_line_of_the_log_is_read_as_it_was_told(tmp_path: Path) -> None:
    tell(str(tmp_path / "log"), "begin", "command", "keyed", 1, 3, 101, "key:2")

    (read_line,) = read(tmp_path / "log")

    assert (read_line.word, read_line.kind, read_line.job, read_line.attempt) == ("begin", "command", "keyed", FIRST)
    assert (read_line.number, read_line.key) == (3, "key:2")
