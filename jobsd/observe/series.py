"""Metrics with a series per job, as Prometheus text. A job's lines are kept and made anew only when they changed.

A registry of a thousand jobs has some thirty thousand lines: the client library takes a quarter of a second to write
them, and the loop stands still for it. For use in one thread.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Protocol


class Family(Protocol):
    """One metric with the label `job`."""

    def keep(self, jobs: Iterable[str]) -> None:
        """Have these jobs' series, and no others."""

    def render(self) -> str:
        """HELP, TYPE and all lines."""


class Counters:
    """Counters by job and one more label with few values; all start at 0, so that the first increase is seen."""

    def __init__(self, name: str, text: str, label: str, values: Sequence[str]) -> None:
        self._head = _head(name, text, "counter")
        self._template = "".join(f'{name}{{job="%(job)s",{label}="{value}"}} %({value})d\n' for value in values)
        self._values = tuple(values)
        self._counts: dict[str, dict[str, int]] = {}
        self._lines: dict[str, str] = {}

    def keep(self, jobs: Iterable[str]) -> None:
        self._counts = {job: self._counts.get(job) or dict.fromkeys(self._values, 0) for job in jobs}
        self._lines = {job: lines for job, lines in self._lines.items() if job in self._counts}

    def add(self, job: str, value: str) -> None:
        self._counts[job][value] += 1
        self._lines.pop(job, None)

    def render(self) -> str:
        for job in self._counts.keys() - self._lines.keys():
            self._lines[job] = self._template % {"job": job, **self._counts[job]}
        return self._head + "".join(map(self._lines.__getitem__, self._counts))


class Gauges:
    """A number by job; a job that has none yet has no line, unless there is a `start`."""

    def __init__(self, name: str, text: str, start: float | None = None) -> None:
        self._head = _head(name, text, "gauge")
        self._name = name
        self._start = start
        self._numbers: dict[str, float] = {}

    def keep(self, jobs: Iterable[str]) -> None:
        numbers = {job: self._numbers.get(job, self._start) for job in jobs}
        self._numbers = {job: number for job, number in numbers.items() if number is not None}

    def get(self, job: str) -> float:
        return self._numbers.get(job, 0.0)

    def put(self, job: str, number: float) -> None:
        self._numbers[job] = number

    def render(self) -> str:
        name = self._name
        return self._head + "".join([f'{name}{{job="{job}"}} {number!r}\n' for job, number in self._numbers.items()])


class Histograms:
    """A histogram by job, from its first observation on."""

    def __init__(self, name: str, text: str, bounds: Sequence[float]) -> None:
        self._head = _head(name, text, "histogram")
        self._bounds = tuple(bounds)
        les = [f'le="{bound:g}"' for bound in bounds] + ['le="+Inf"']
        self._template = "".join(f'{name}_bucket{{job="%s",{le}}} %d\n' for le in les)
        self._template += f'{name}_sum{{job="%s"}} %r\n{name}_count{{job="%s"}} %d\n'
        self._buckets: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        self._lines: dict[str, str] = {}

    def keep(self, jobs: Iterable[str]) -> None:
        kept = set(jobs)
        self._buckets = {job: buckets for job, buckets in self._buckets.items() if job in kept}
        self._lines = {job: lines for job, lines in self._lines.items() if job in kept}

    def observe(self, job: str, number: float) -> None:
        buckets = self._buckets.get(job)
        if buckets is None:
            buckets = self._buckets[job] = [0] * (len(self._bounds) + 1)
            self._sums[job] = 0.0
        buckets[bisect_left(self._bounds, number)] += 1
        self._sums[job] += number
        self._lines.pop(job, None)

    def render(self) -> str:
        for job in self._buckets.keys() - self._lines.keys():
            self._lines[job] = self._template % tuple(self._cells(job))
        return self._head + "".join(map(self._lines.__getitem__, self._buckets))

    def _cells(self, job: str) -> list[object]:
        cells: list[object] = []
        total = 0
        for count in self._buckets[job]:
            total += count
            cells += (job, total)
        return [*cells, job, self._sums[job], job, total]


def _head(name: str, text: str, kind: str) -> str:
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"
