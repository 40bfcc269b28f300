"""Progress made of weighted steps: where a run stands follows from how far its steps are."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

MOST = 100  # steps
NAME_CHARS = 100
TEXT_CHARS = 16 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, 0 to 1; with a pipeline, the step that it is in and all of them with their weights."""

    fraction: float
    note: str = ""
    step: str | None = None
    steps: tuple[tuple[str, float], ...] | None = None


class Steps:
    """The declaration and the standing of a pipeline. Steps may be done in any order, or side by side."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Raises `ValueError` unless there are 1 to 100 named steps with weights above 0."""
        if not 0 < len(weights) <= MOST:
            raise ValueError(f"expected 1 to {MOST} steps, got {len(weights)}")
        for name, weight in weights.items():
            if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS or not name.isprintable():
                raise ValueError(f"expected a step's name of 1 to {NAME_CHARS} printable characters, got {name!r}")
            if not 0 < weight < math.inf:  # also of what is no number
                raise ValueError(f'step "{name}": expected a weight above 0, got {weight}')
        self._weights = {name: float(weight) for name, weight in weights.items()}
        self._done = dict.fromkeys(weights, 0.0)

    def require(self, name: str) -> None:
        """Raises `ValueError` for a step that was not declared."""
        if name not in self._weights:
            raise ValueError(f'there is no step "{name}"; the pipeline has: {", ".join(self._weights)}')

    def at(self, name: str, fraction: float, note: str = "") -> Progress:
        """Note how far a step is, which never goes back, and what that makes of the whole."""
        self._done[name] = max(self._done[name], share(fraction))
        largest = max(self._weights.values())  # so that no sum grows past what a float holds
        whole = math.fsum(weight / largest for weight in self._weights.values())
        done = math.fsum(weight / largest * self._done[step] for step, weight in self._weights.items())
        return Progress(min(1.0, done / whole), note, name, tuple(self._weights.items()))


@dataclass(frozen=True, slots=True)
class AsyncStep:
    name: str
    steps: Steps
    tell: Callable[[Progress], Awaitable[None]]

    async def progress(self, fraction: float, note: str = "") -> None:
        await self.tell(self.steps.at(self.name, fraction, storable(note)))


@dataclass(frozen=True, slots=True)
class AsyncPipeline:
    steps: Steps
    tell: Callable[[Progress], Awaitable[None]]

    @asynccontextmanager
    async def step(self, name: str) -> AsyncIterator[AsyncStep]:
        self.steps.require(name)
        step = AsyncStep(name, self.steps, self.tell)
        await step.progress(0.0)
        yield step
        await step.progress(1.0)


@dataclass(frozen=True, slots=True)
class PlainStep:
    name: str
    steps: Steps
    tell: Callable[[Progress], None]

    def progress(self, fraction: float, note: str = "") -> None:
        self.tell(self.steps.at(self.name, fraction, storable(note)))


@dataclass(frozen=True, slots=True)
class PlainPipeline:
    steps: Steps
    tell: Callable[[Progress], None]

    @contextmanager
    def step(self, name: str) -> Iterator[PlainStep]:
        self.steps.require(name)
        step = PlainStep(name, self.steps, self.tell)
        step.progress(0.0)
        yield step
        step.progress(1.0)


def share(fraction: float) -> float:
    """`fraction` within 0 and 1: sums of parts miss by a little. Raises `ValueError` for what is no number."""
    if math.isnan(fraction):
        raise ValueError("expected a share from 0 to 1, got nan")
    return float(min(1.0, max(0.0, fraction)))


def storable(text: str) -> str:
    """`text` as PostgreSQL takes it, at most `TEXT_CHARS` long."""
    return str(text)[:TEXT_CHARS].replace("\0", "").encode(errors="backslashreplace").decode()
