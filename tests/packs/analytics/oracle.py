"""The same figures computed another way: with pandas, straight from the files of the set."""

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

COURSE = ["code_module", "code_presentation"]
KINDS = {"CMA": "quiz_submitted", "TMA": "assignment_submitted", "Exam": "exam_submitted"}
RESULTS = {
    "Pass": "course_completed",
    "Distinction": "course_completed",
    "Fail": "course_failed",
    "Withdrawn": "course_withdrawn",
}


@lru_cache(maxsize=2)
def events(folder: Path) -> pd.DataFrame:
    """course, learner, kind, day, score; one row an event."""
    read = {p.name.split(".")[0]: pd.read_csv(p, na_values=["?"]) for p in folder.glob("*.csv.gz")}
    courses = read["courses"]
    courses["course"] = courses["code_module"] + "/" + courses["code_presentation"]
    month = courses["code_presentation"].str[-1].map({"B": "-02-01", "J": "-10-01"})
    courses["start"] = pd.to_datetime(courses["code_presentation"].str[:4] + month)
    registered = read["studentRegistration"].merge(courses, on=COURSE)
    submitted = read["studentAssessment"].merge(read["assessments"], on="id_assessment").merge(courses, on=COURSE)
    ended = read["studentInfo"].merge(registered, on=[*COURSE, "id_student"])
    withdrawn = ended["final_result"] == "Withdrawn"
    last = ended["date_unregistration"].where(withdrawn, ended["module_presentation_length"])
    parts = [
        _part(registered, "enrolled", registered["date_registration"]),
        _part(submitted, submitted["assessment_type"].map(KINDS), submitted["date_submitted"], submitted["score"]),
        _part(ended, ended["final_result"].map(RESULTS), last),
    ]
    return pd.concat(parts, ignore_index=True)


def _part(rows: pd.DataFrame, kind: Any, days: pd.Series, score: Any = float("nan")) -> pd.DataFrame:
    at = rows["start"] + pd.to_timedelta(days.fillna(0), unit="D")
    return pd.DataFrame(
        {"course": rows["course"], "learner": rows["id_student"], "kind": kind, "day": at.dt.date, "score": score}
    ).assign(day_unknown=days.isna())


Aggregate = tuple[date, str, str, int, int, float, int, int]


def aggregates(folder: Path) -> set[Aggregate]:
    """day, course, kind, events, scored, score_sum, passes, learners."""
    all_events = events(folder)
    counted = (
        all_events.assign(passed=all_events["score"] >= 40)
        .groupby(["day", "course", "kind"])
        .agg(
            events=("learner", "size"),
            scored=("score", "count"),
            score_sum=("score", "sum"),
            passes=("passed", "sum"),
            learners=("learner", "nunique"),
        )
    )
    return set(counted.reset_index().itertuples(index=False, name=None))


def low_rates(folder: Path) -> dict[tuple[str, str], float]:
    """(rule, course) -> rate, of all rates that are too low; both rules, at least 20 to judge by."""
    all_events = events(folder)
    kinds = all_events.groupby("course")["kind"].value_counts().unstack(fill_value=0)
    completed = (kinds["course_completed"] / kinds["enrolled"])[kinds["enrolled"] >= 20]
    quizzes = all_events[(all_events["kind"] == "quiz_submitted") & all_events["score"].notna()]
    scores = quizzes.groupby("course")["score"]
    passed = scores.apply(lambda score: (score >= 40).mean())[scores.size() >= 20]
    return {("low_completion_rate", str(course)): rate for course, rate in completed.items() if rate < 0.45} | {
        ("low_quiz_pass_rate", str(course)): rate for course, rate in passed.items() if rate < 0.90
    }


def falls(folder: Path) -> dict[tuple[str, str], tuple[int, int]]:
    """(course, month) -> submissions, and the month before's, where they fell to half or less from 50 or more."""
    all_events = events(folder)
    month = pd.PeriodIndex(pd.to_datetime(all_events["day"]), freq="M")
    is_submission = all_events["kind"].str.endswith("_submitted")
    found: dict[tuple[str, str], tuple[int, int]] = {}
    for course, submissions in is_submission.groupby(all_events["course"]):
        by_month = submissions.groupby(month[submissions.index]).sum()
        life = by_month.reindex(pd.period_range(by_month.index.min(), by_month.index.max(), freq="M"), fill_value=0)
        for before, now, when in zip(life, life[1:-1], life.index[1:-1], strict=False):
            if before >= 50 and now <= before / 2:
                found[str(course), str(when)] = (int(now), int(before))
    return found
