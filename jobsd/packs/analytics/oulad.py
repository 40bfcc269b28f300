"""The Open University Learning Analytics Dataset as events.

A course is `module/presentation`, which starts on 1 February (B) or 1 October (J) of its year; a date in the files is a
number of days from there, and the presentation's length is its last day. What is kept in memory: the courses, the
assessments, and a day for each learner who left.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jobsd.packs.analytics.event import BadInput, BadRow, Event, score_of
from jobsd.packs.analytics.files import Source

COURSES = "courses.csv"
ASSESSMENTS = "assessments.csv"
REGISTRATIONS = "studentRegistration.csv"
SUBMISSIONS = "studentAssessment.csv"
RESULTS = "studentInfo.csv"
ORDER = (COURSES, ASSESSMENTS, REGISTRATIONS, SUBMISSIONS, RESULTS)  # each needs what is read before it

SUBMITTED = {"CMA": "quiz_submitted", "TMA": "assignment_submitted", "Exam": "exam_submitted"}
ENDED = {
    "Pass": "course_completed",
    "Distinction": "course_completed",
    "Fail": "course_failed",
    "Withdrawn": "course_withdrawn",
}
FIRST_MONTH = {"B": 2, "J": 10}
LONGEST_DAYS = 10_000

Rows = Iterator[list[str] | BadRow]


class Oulad:
    """Reads a set of its five files, in `paths`."""

    def __init__(self, files: Sequence[Path]) -> None:
        named = {path.name.removesuffix(".gz"): path for path in files}
        if missing := [name for name in ORDER if name not in named]:
            raise BadInput(f"the OULAD set lacks {', '.join(missing)} (plain or .gz)")
        self.paths = [named[name] for name in ORDER]
        self._starts: dict[str, datetime] = {}
        self._ends: dict[str, datetime] = {}
        self._assessments: dict[str, tuple[str, str]] = {}  # id -> course, kind of event
        self._left: dict[tuple[str, str], datetime] = {}  # course, learner -> the day of leaving

    def events(self, source: Source) -> Iterator[Event | BadRow]:
        """The events of one file; those that are bad as what is wrong with them. Files come in the order of `paths`."""
        columns, event_of = self._table(source.path.name.removesuffix(".gz"))
        for row in source.table(columns):
            if isinstance(row, BadRow):
                yield row
                continue
            try:
                event = event_of(*row)
            except BadRow as bad:
                yield bad
            else:
                if event is not None:
                    yield event

    def _table(self, name: str) -> tuple[Sequence[str], Callable[..., Event | None]]:
        course = ("code_module", "code_presentation")
        tables: dict[str, tuple[Sequence[str], Callable[..., Event | None]]] = {
            COURSES: ((*course, "module_presentation_length"), self._course),
            ASSESSMENTS: ((*course, "id_assessment", "assessment_type"), self._assessment),
            REGISTRATIONS: ((*course, "id_student", "date_registration", "date_unregistration"), self._registration),
            SUBMISSIONS: (("id_assessment", "id_student", "date_submitted", "score"), self._submission),
            RESULTS: ((*course, "id_student", "final_result"), self._result),
        }
        return tables[name]

    def _course(self, module: str, presentation: str, length: str) -> None:
        match = re.fullmatch(r"((?:19|20)\d\d)([BJ])", presentation)
        if not match or not re.fullmatch(r"\w{1,20}", module):
            raise BadRow(f'expected a module and a presentation, like "AAA" and "2013J", got "{presentation[:40]}"')
        start = datetime(int(match[1]), FIRST_MONTH[match[2]], 1, tzinfo=UTC)
        if (days := _days(length)) is None:
            raise BadRow("expected the presentation's length in days, got none")
        self._starts[f"{module}/{presentation}"] = start
        self._ends[f"{module}/{presentation}"] = start + days

    def _assessment(self, module: str, presentation: str, assessment: str, kind: str) -> None:
        if kind not in SUBMITTED:
            raise BadRow(f'expected an assessment of type {", ".join(SUBMITTED)}, got "{kind[:40]}"')
        self._assessments[_id(assessment)] = (self._known(module, presentation), SUBMITTED[kind])

    def _registration(self, module: str, presentation: str, student: str, day: str, left: str) -> Event:
        course, learner = self._known(module, presentation), _id(student)
        if (leaving := _days(left)) is not None:
            self._left[course, learner] = self._starts[course] + leaving
        enrolled = _days(day)
        at = self._starts[course] + (enrolled or timedelta(0))
        return Event(f"enrolled/{course}/{learner}", course, learner, "enrolled", {}, at, enrolled is None)

    def _submission(self, assessment: str, student: str, day: str, score: str) -> Event:
        if (known := self._assessments.get(assessment)) is None:
            raise BadRow(f'no assessment "{assessment[:40]}" in {ASSESSMENTS}')
        (course, kind), learner, submitted = known, _id(student), _days(day)
        value: dict[str, object] = {"assessment": assessment}
        if (points := score_of(score)) is not None:
            value["score"] = points
        at = self._starts[course] + (submitted or timedelta(0))
        return Event(f"submitted/{assessment}/{learner}", course, learner, kind, value, at, submitted is None)

    def _result(self, module: str, presentation: str, student: str, result: str) -> Event:
        course, learner = self._known(module, presentation), _id(student)
        if (kind := ENDED.get(result)) is None:
            raise BadRow(f'expected a final result of {", ".join(ENDED)}, got "{result[:40]}"')
        at = self._left.get((course, learner)) if kind == "course_withdrawn" else self._ends[course]
        value = {"grade": result} if kind == "course_completed" else {}
        return Event(f"result/{course}/{learner}", course, learner, kind, value, at or self._starts[course], at is None)

    def _known(self, module: str, presentation: str) -> str:
        course = f"{module}/{presentation}"
        if course not in self._starts:
            raise BadRow(f'no course "{course[:40]}" in {COURSES}')
        return course


def _days(text: str) -> timedelta | None:
    """A number of days; None where the set says that it does not know."""
    if text in {"", "?"}:
        return None
    if not re.fullmatch(r"[+-]?\d{1,5}", text) or abs(int(text)) > LONGEST_DAYS:
        raise BadRow(f'expected a whole number of days, got "{text[:40]}"')
    return timedelta(days=int(text))


def _id(text: str) -> str:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise BadRow(f'expected a number as id, got "{text[:40]}"')
    return text
