"""The campaign's report: what was injected how often, how long recoveries took, what was counted."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from tests.faults.chaos.campaign import Done
from tests.faults.chaos.history import History
from tests.faults.chaos.inject import FAULTS
from tests.faults.chaos.overlaps import lines_after_a_thaw

SHOWN = 5  # violations of a kind


@dataclass(frozen=True, slots=True)
class Report:
    seed: int
    took_s: float
    done: Sequence[Done]
    history: History
    found: Mapping[str, list[str]]

    @property
    def holds(self) -> bool:
        return not any(self.found.values())

    def facts(self) -> dict[str, Any]:
        """All of it, for a file."""
        return {
            "seed": self.seed,
            "took_s": round(self.took_s, 1),
            "faults": len(self.done),
            "at_once_with_another_or_in_a_recovery": sum(not each.alone for each in self.done),
            "injected": self._injected(),
            "counted": {name: len(found) for name, found in self.found.items()},
            "found": {name: found for name, found in self.found.items() if found},
            "figures": self._figures(),
        }

    def text(self) -> str:
        facts = self.facts()
        lines = [
            f"{facts['faults']} faults in {facts['took_s']:.0f} s (seed {self.seed}), "
            f"{facts['at_once_with_another_or_in_a_recovery']} of them at once with another or into a recovery",
            "",
            f"{'injected':42} {'times':>5} {'measured':>8} {'median':>8} {'longest':>8} {'bar':>7}",
        ]
        for name, row in facts["injected"].items():
            times = f"{_s(row['median_s'])} {_s(row['longest_s'])} {_s(row['bar_s'], 7)}"
            lines.append(f"{name:42} {row['times']:5} {row['measured']:8} {times}")
        lines += ["", f"{'counted':42} {'found':>5}"]
        for name, found in self.found.items():
            lines.append(f"{name:42} {len(found):5}")
            lines += [f"    {each}" for each in found[:SHOWN]]
        lines += ["", "figures", *(f"{name:42} {value}" for name, value in facts["figures"].items())]
        return "\n".join(lines)

    def _injected(self) -> dict[str, Any]:
        recoveries: dict[str, list[float]] = defaultdict(list)
        for each in self.done:
            if each.recovered_s is not None:
                recoveries[each.fault.name].append(each.recovered_s)
        times = Counter(each.fault.name for each in self.done)
        return {
            fault.name: {
                "times": times[fault.name],
                "measured": len(took := recoveries[fault.name]),
                "median_s": round(median(took), 2) if took else None,
                "longest_s": round(max(took), 2) if took else None,
                "bar_s": fault.bar_s,
            }
            for fault in FAULTS
        }

    def _figures(self) -> dict[str, Any]:
        history = self.history
        steps = lines_after_a_thaw(history)
        states = Counter(run.state for run in history.runs.values())
        outcomes = Counter("refused, stale" if each.stale else each.outcome for each in history.recorded)
        return {
            "runs": _listed(states),
            "attempts": _listed(outcomes),
            "slots": _listed(Counter({s.decision: 0 for s in history.stretches}) + _slots(history)),
            "runs acknowledged": len(history.acknowledged),
            "lines in the jobs' log": len(history.lines),
            "runs seen over while it went on": len(history.seen_over),
            "in-process executions late after a thaw": f"{len(steps)}, at most {max(steps, default=0)} lines each",
        }


def _slots(history: History) -> Counter[str]:
    counts: Counter[str] = Counter()
    for stretch in history.stretches:
        counts[stretch.decision] += stretch.count
    return counts


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def _s(value: float | None, width: int = 8) -> str:
    return f"{'' if value is None else f'{value:.2f}':>{width}}"
