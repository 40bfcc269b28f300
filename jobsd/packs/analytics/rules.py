"""The rules by which counts become signals, and what each of them finds. Pure: no database, no clock."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

WHOLE = "whole"  # the period of a signal that is of the course's whole life

Word = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,49}$")]
Figure = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,49}\.(events|scored|passes)$")]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True)
class Signal:
    """What a rule found in one course and period, with the figures that it was judged by."""

    rule: str
    course_id: str
    period: str
    severity: Literal["warning", "critical"]
    evidence: Mapping[str, float | int]

    @property
    def key(self) -> str:
        return f"{self.rule}|{self.period}|{self.course_id}"


class Counts(NamedTuple):
    """Of one kind of event in one month."""

    events: int
    scored: int
    passes: int


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month of a course, by its first day, with the counts of each kind."""

    first: date
    is_complete: bool  # it is over: its counts change by late events only
    kinds: Mapping[str, Counts]

    def events(self, kinds: Iterable[str]) -> int:
        return sum(self.kinds[kind].events for kind in kinds if kind in self.kinds)


@dataclass(frozen=True, slots=True)
class Course:
    """The counts of a course: its months that have events, ascending."""

    course_id: str
    months: list[Month]

    def total(self, figure: str) -> int:
        """Over its whole life, e.g. of "quiz_submitted.passes"."""
        kind, _, count = figure.partition(".")
        return sum(getattr(month.kinds[kind], count) for month in self.months if kind in month.kinds)

    def life(self) -> Iterator[Month]:
        """All its months from the first to the last, those without any event too."""
        for month, after in pairwise(self.months):
            yield month
            first = _next(month.first)
            while first < after.first:
                yield Month(first, True, {})
                first = _next(first)
        yield from self.months[-1:]


def _next(month: date) -> date:
    return date(month.year + month.month // 12, month.month % 12 + 1, 1)


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Rate(_Rule):
    """A share that is too low over a course's whole life: `part` of `whole`, each a kind of event and its count."""

    type: Literal["rate"] = "rate"
    part: Figure = Field(description='e.g. "course_completed.events"; counts are events, scored, passes')
    whole: Figure = Field(description='e.g. "enrolled.events"')
    below: Share = Field(description="a lower share raises a signal")
    critical_below: Annotated[float, Field(ge=0, le=1)] = Field(0, description="a still lower one is critical; 0: none")
    minimum_sample: Count = Field(20, description="of `whole`: with less, nothing is said")
    once: tuple[Word, ...] = Field((), description="only for courses that have an event of these kinds; none: for all")

    @model_validator(mode="after")
    def _critical_is_lower(self) -> "Rate":
        if self.critical_below > self.below:
            raise ValueError(f"expected critical_below at or under below ({self.below:g}), got {self.critical_below:g}")
        return self

    def find(self, name: str, course: Course) -> Iterator[Signal]:
        part, whole = course.total(self.part), course.total(self.whole)
        known = not self.once or any(month.events(self.once) for month in course.months)
        if known and whole >= self.minimum_sample and (rate := part / whole) < self.below:
            severity: Literal["warning", "critical"] = "critical" if rate < self.critical_below else "warning"
            evidence = {"part": part, "whole": whole, "rate": round(rate, 4), "below": self.below}
            yield Signal(name, course.course_id, WHOLE, severity, evidence)


class Fall(_Rule):
    """A month with far fewer events than the month before. The last month of a course is not judged: all fall there."""

    type: Literal["fall"] = "fall"
    kinds: tuple[Word, ...] = Field(min_length=1, description="the kinds of events that are counted")
    by: Share = Field(0.5, description="a fall by this share of the month before, or more, raises a signal")
    critical_by: Share = Field(1, description="from here on it is critical")
    minimum_sample: Count = Field(50, description="events in the month before: with less, nothing is said")

    @model_validator(mode="after")
    def _critical_is_higher(self) -> "Fall":
        if self.critical_by < self.by:
            raise ValueError(f"expected critical_by at or over by ({self.by:g}), got {self.critical_by:g}")
        return self

    def find(self, name: str, course: Course) -> Iterator[Signal]:
        for earlier, month in pairwise(list(course.life())[:-1]):
            before, events = earlier.events(self.kinds), month.events(self.kinds)
            if month.is_complete and before >= self.minimum_sample and (fall := 1 - events / before) >= self.by:
                severity: Literal["warning", "critical"] = "critical" if fall >= self.critical_by else "warning"
                evidence = {"events": events, "before": before, "fall": round(fall, 4), "by": self.by}
                yield Signal(name, course.course_id, f"{month.first:%Y-%m}", severity, evidence)


Rule = Annotated[Rate | Fall, Field(discriminator="type")]
Rules = Mapping[Word, Rule]
RULES: TypeAdapter[Rules] = TypeAdapter(Rules)

SUBMITTED = ("quiz_submitted", "assignment_submitted", "exam_submitted")
DEFAULT_RULES: Rules = {
    "low_completion_rate": Rate(
        part="course_completed.events",
        whole="enrolled.events",
        below=0.45,
        critical_below=0.35,
        once=("course_completed", "course_failed"),
    ),
    "low_quiz_pass_rate": Rate(
        part="quiz_submitted.passes", whole="quiz_submitted.scored", below=0.90, critical_below=0.75
    ),
    "falling_activity": Fall(kinds=SUBMITTED),
}


def signals_of(rules: Rules, course: Course) -> list[Signal]:
    """All that the rules find in one course."""
    return [signal for name, rule in rules.items() for signal in rule.find(name, course)]
