"""What the database says must agree with what was acknowledged, what the jobs wrote, and with itself."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from tests.faults.chaos.history import OVER, Attempt, History, Run
from tests.faults.chaos.registry import JOBS

REFUSED = "refused"  # no move: tells of a result that came too late
ENDS = {"completed": ("completed",), "failed": ("failed", "force_failed"), "cancelled": ("cancelled",)}


def lost(history: History) -> list[str]:
    """Runs that were acknowledged and are gone, or are not over though nothing disturbs them any more (P5)."""
    said = [
        f"run {run} of {job} was acknowledged and is not there"
        for run, job, _ in history.acknowledged
        if run not in history.runs
    ]
    return said + [
        f"run {run.id} of {run.job} is still {run.state}" for run in history.runs.values() if run.state not in OVER
    ]


def unfounded(history: History) -> list[str]:
    """Runs called completed whose execution never wrote that it ended under the fence that completed it."""
    ended = {line.attempt for line in history.lines if line.word == "end"}
    return [
        f"run {run.id} of {run.job} is completed, but its fence {run.fence} wrote no end"
        for run in history.runs.values()
        if run.state == "completed" and JOBS[run.job].witnessed and _last(run) not in ended
    ]


def _last(run: Run) -> Attempt:
    return Attempt(run.id, run.fence or 0)


def completed_twice(history: History) -> list[str]:
    """Runs with more than one completion, or with one that is not their last fence's (P4)."""
    completions: dict[int, list[Attempt]] = defaultdict(list)
    for each in history.recorded:
        if each.outcome == "completed" and not each.stale:
            completions[each.attempt.run].append(each.attempt)
    acts = Counter(entry.run for entry in history.entries if entry.act == "completed")
    said = []
    for run in history.runs.values():
        wanted = [_last(run)] if run.state == "completed" else []
        if completions[run.id] != wanted or acts[run.id] != len(wanted):
            said.append(
                f"run {run.id} of {run.job} is {run.state} with {completions[run.id]} and {acts[run.id]} entries"
            )
    return said


def executed_undeclared(history: History) -> list[str]:
    """Runs that were executed again though their job declares neither that nor so many retries (P8)."""
    begun: dict[int, set[Attempt]] = defaultdict(set)
    for line in history.lines:
        if line.word == "begin":
            begun[line.attempt.run].add(line.attempt)
    said = []
    for run in history.runs.values():
        job = JOBS[run.job]
        times = len(begun[run.id])
        if run.retries > job.retries or (not job.restartable and times > 1 + run.retries):
            said.append(f"run {run.id} of {run.job} was executed {times} times, with {run.retries} retries")
    return said


def unrecorded(history: History) -> list[str]:
    """Executions without an attempt, and attempts whose numbers have a gap."""
    known = {each.attempt for each in history.recorded}
    begun = {line.attempt: line.job for line in history.lines if line.word == "begin"}
    said = [f"{job}: {attempt} began and has no record" for attempt, job in begun.items() if attempt not in known]
    numbers: dict[int, list[int]] = defaultdict(list)
    for each in history.recorded:
        if not each.stale:
            numbers[each.attempt.run].append(each.number)
    return said + [
        f"run {run.id} of {run.job}: {run.attempts} attempts, recorded {sorted(numbers[run.id])}"
        for run in history.runs.values()
        if sorted(numbers[run.id]) != list(range(1, run.attempts + 1))
    ]


def changed(history: History) -> list[str]:
    """Terminal states that were seen and are others now; and audits that tell another story than the row (P10)."""
    said = [
        f"run {run} was {state} and is {_state(history, run)}"
        for run, state in history.seen_over.items()
        if _state(history, run) != state
    ]
    story: dict[int, list[tuple[int, str]]] = defaultdict(list)
    for entry in history.entries:
        if entry.act != REFUSED:
            story[entry.run].append((entry.sequence, entry.act))
    for run in history.runs.values():
        moves = sorted(story[run.id])
        whole = [sequence for sequence, _ in moves] == list(range(1, run.version + 1))
        if not whole or (run.state in OVER and moves[-1][1] not in ENDS[run.state]):
            said.append(f"run {run.id} of {run.job} is {run.state}, version {run.version}; its audit: {moves}")
    return said


def _state(history: History, run: int) -> str:
    return history.runs[run].state if run in history.runs else "gone"


def doubled(history: History) -> list[str]:
    """Idempotency keys with more than one run; slots with more than one; requests answered with two ids (P2, P5)."""
    runs = history.runs.values()
    keys = _repeated((run.job, run.key) for run in runs if run.key)
    slots = _repeated((run.job, run.slot_at) for run in runs if run.slot_at)
    answers = _repeated((job, key) for _, job, key in history.acknowledged if key)
    return [
        f"{name} twice: {what}"
        for name, found in (("key", keys), ("slot", slots), ("answer", answers))
        for what in found
    ]


def _repeated(items: Iterable[object]) -> list[object]:
    return [item for item, times in Counter(items).items() if times > 1]


def effects(history: History) -> list[str]:
    """Rows of jobs that write in their run's own transaction: one of a completed run, by its fence; else none (P9)."""
    written: dict[int, list[Attempt]] = defaultdict(list)
    for attempt in history.effects:
        written[attempt.run].append(attempt)
    said = []
    for run in history.runs.values():
        wanted = [_last(run)] if run.state == "completed" else []
        if JOBS[run.job].exactly_once and written[run.id] != wanted:
            said.append(f"run {run.id} of {run.job} is {run.state} with the effects {written[run.id]}")
    return said
