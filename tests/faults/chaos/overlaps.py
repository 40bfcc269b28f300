"""Counts, from what the executions themselves wrote, whether two of one lock key were ever at work at once (P3).

An execution is at work from its `begin` to its last line, and the order is that of the file: a line that comes after
another execution of the same key has begun is one too many. Only code in the daemon's own process may be late, and only
by one step, from one wait to the next, when the process was frozen and is awake again.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tests.faults.chaos.history import Attempt, History, Line
from tests.faults.chaos.registry import JOBS

IN_THE_DAEMON = "loop"


@dataclass(frozen=True, slots=True)
class Late:
    """A line that was written while `other` had the key."""

    line: Line
    other: Attempt


def late_lines(lines: Sequence[Line]) -> list[Late]:
    """Every line of an execution whose key another one had begun with in the meantime."""
    newest: dict[str, Attempt] = {}
    late = []
    for line in lines:
        if line.word == "begin":
            newest[line.key] = line.attempt
        elif newest.get(line.key, line.attempt) != line.attempt:
            late.append(Late(line, newest[line.key]))
    return late


def overlaps(history: History) -> list[str]:
    """Executions that overlapped, but for one step of code in a daemon."""
    said = []
    for attempt, late in _by_attempt(late_lines(history.lines)).items():
        first = late[0].line
        others = [each for each in late if each.line.kind != IN_THE_DAEMON]
        steps = sum(each.line.word == "step" for each in late)
        went_on_s = (late[-1].line.ns - first.ns) / 1e9
        if others or steps > 1:
            what = f"{first.job} {first.kind} run {attempt.run} fence {attempt.fence}"
            said.append(
                f"{what}: {len(late)} lines over {went_on_s:.3f} s after {late[0].other} had begun: {first.key}"
            )
    return said


def lines_after_a_thaw(history: History) -> list[int]:
    """How many late lines each execution in a daemon wrote that was frozen: at least one, of those that wrote any."""
    late = _by_attempt(late_lines(history.lines))
    return [len(each) for each in late.values() if all(late.line.kind == IN_THE_DAEMON for late in each)]


def _by_attempt(late: Sequence[Late]) -> Mapping[Attempt, list[Late]]:
    found: dict[Attempt, list[Late]] = defaultdict(list)
    for each in late:
        found[each.line.attempt].append(each)
    return found


def crowds(history: History) -> list[str]:
    """Moments at which more executions of a job were at work than its concurrency allows, over all nodes."""
    said = []
    last = {line.attempt: index for index, line in enumerate(history.lines)}
    at_work: dict[str, set[Attempt]] = defaultdict(set)
    for index, line in enumerate(history.lines):
        limit = JOBS[line.job].concurrency
        if limit is None:
            continue
        if line.word == "begin":
            at_work[line.job].add(line.attempt)
            if len(at_work[line.job]) > limit:
                said.append(
                    f"{line.job}: {len(at_work[line.job])} at once, {limit} are allowed: run {line.attempt.run}"
                )
        if last[line.attempt] == index:
            at_work[line.job].discard(line.attempt)
    return said
