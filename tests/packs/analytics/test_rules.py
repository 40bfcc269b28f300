"""The rules, without a database."""

from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from jobsd.packs.analytics.changes import Stored, compare
from jobsd.packs.analytics.rules import DEFAULT_RULES, RULES, Counts, Course, Fall, Month, Rate, Signal, signals_of

pytestmark = pytest.mark.req("A2")

RATE = Rate(part="done.events", whole="begun.events", below=0.45, critical_below=0.3, minimum_sample=20)
FALL = Fall(kinds=("quiz_submitted",), by=0.5, minimum_sample=50)


def course(*months: tuple[str, dict[str, int]]) -> Course:
    """Complete months, each with how many events of a kind it has."""
    return Course(
        "C",
        [
            Month(date.fromisoformat(f"{month}-01"), True, {kind: Counts(n, 0, 0) for kind, n in kinds.items()})
            for month, kinds in months
        ],
    )


def quizzes(*months: tuple[str, int]) -> Course:
    return course(*((month, {"quiz_submitted": n} if n else {"other": 1}) for month, n in months))


@pytest.mark.parametrize(
    ("done", "begun", "severity"),
    [
        (45, 100, None),
        (44, 100, "warning"),
        (30, 100, "warning"),
        (29, 100, "critical"),
        (0, 20, "critical"),
        (0, 19, None),
    ],
)
def test_a_rate_is_low_below_its_limit_and_says_nothing_of_a_small_sample(
    done: int, begun: int, severity: str | None
) -> None:
    found = list(RATE.find("low", course(("2026-01", {"done": done, "begun": begun}))))

    assert [signal.severity for signal in found] == ([severity] if severity else [])


def test_a_rate_is_of_the_whole_life_of_a_course() -> None:
    (signal,) = RATE.find("low", course(("2026-01", {"begun": 90}), ("2026-05", {"begun": 10, "done": 31})))

    assert (signal.period, signal.evidence) == ("whole", {"part": 31, "whole": 100, "rate": 0.31, "below": 0.45})


def test_a_rate_that_is_known_once_a_course_has_results_is_not_judged_before() -> None:
    rule = RATE.model_copy(update={"once": ("done", "failed")})

    assert list(rule.find("low", course(("2026-01", {"begun": 100})))) == []
    assert len(list(rule.find("low", course(("2026-01", {"begun": 100}), ("2026-02", {"failed": 1}))))) == 1


@pytest.mark.parametrize(
    ("before", "events", "falls"), [(50, 25, True), (50, 26, False), (49, 0, False), (1000, 499, True)]
)
def test_a_month_falls_by_the_share_of_the_month_before(before: int, events: int, falls: bool) -> None:
    found = list(FALL.find("fall", quizzes(("2025-12", before), ("2026-01", events), ("2026-02", 1))))

    assert [(signal.period, signal.severity) for signal in found] == (
        [("2026-01", "warning" if events else "critical")] if falls else []
    )


def test_a_month_without_any_event_within_the_life_of_a_course_has_fallen_to_none() -> None:
    (signal,) = FALL.find("fall", quizzes(("2025-11", 60), ("2026-01", 70), ("2026-02", 1)))

    assert (signal.period, signal.severity, signal.evidence["events"]) == ("2025-12", "critical", 0)


def test_the_last_month_of_a_course_is_not_judged() -> None:
    assert list(FALL.find("fall", quizzes(("2025-12", 100), ("2026-01", 1)))) == []


def test_every_rule_judges_every_course_under_its_own_name() -> None:
    low = course(("2026-01", {"done": 1, "begun": 100}))

    found = signals_of({"one": RATE, "two": RATE}, low)

    assert [signal.key for signal in found] == ["one|whole|C", "two|whole|C"]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ({"type": "rate", "part": "done", "whole": "begun.events", "below": 0.5}, "part"),
        ({"type": "rate", "part": "done.learners", "whole": "begun.events", "below": 0.5}, "part"),
        ({"type": "rate", "part": "a.events", "whole": "b.events", "below": 45}, "below"),
        (
            {"type": "rate", "part": "a.events", "whole": "b.events", "below": 0.4, "critical_below": 0.5},
            "critical_below",
        ),
        ({"type": "fall", "kinds": []}, "kinds"),
        ({"type": "fall", "kinds": ["a"], "by": 0.5, "critical_by": 0.4}, "critical_by"),
        ({"type": "rise", "kinds": ["a"]}, "rate"),
        ({"type": "fall", "kinds": ["a"], "bye": 0.5}, "bye"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(rule: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        RULES.validate_python({"name": rule})


def test_a_rules_name_is_a_word_that_can_stand_in_a_key() -> None:
    with pytest.raises(ValidationError, match="pattern"):
        RULES.validate_python({"a|b": {"type": "fall", "kinds": ["a"]}})


def test_rules_survive_being_stored() -> None:
    assert RULES.validate_json(RULES.dump_json(DEFAULT_RULES)) == DEFAULT_RULES


def test_only_what_differs_is_written() -> None:
    same, other, new, gone = (
        Signal("r", name, "whole", "warning", {"n": 1}) for name in ("same", "other", "new", "gone")
    )
    stored = {signal.key: Stored("warning", {"n": 1}, False, False) for signal in (same, gone)}
    stored[other.key] = Stored("warning", {"n": 2}, False, False)

    changes = compare([same, other, new], stored)

    assert (changes.new, changes.changed, changes.cleared) == ([new], [other], [gone.key])
