"""The slots to come, and what people are told of daylight saving. In Berlin the clock leaps on 2027-03-28 at 02:00."""

from datetime import UTC, datetime, timedelta

import pytest

from jobsd.domain.coming import coming
from jobsd.domain.job import Blackout, ScheduleSpec
from jobsd.domain.schedule import schedule_of


def notes(spec: ScheduleSpec, after: datetime, count: int) -> list[tuple[str, str]]:
    return [(f"{slot.local:%m-%d %H:%M}", slot.note) for slot in coming(schedule_of(spec), after, count)]


def test_slots_come_in_the_schedules_own_zone() -> None:
    spec = ScheduleSpec(cron="30 2 * * *", timezone="Europe/Berlin")

    found = coming(schedule_of(spec), datetime(2026, 11, 22, 12, tzinfo=UTC), 2)

    assert [slot.slot_at for slot in found] == [
        datetime(2026, 11, 23, 1, 30, tzinfo=UTC),
        datetime(2026, 11, 24, 1, 30, tzinfo=UTC),
    ]
    assert [f"{slot.local:%H:%M %Z}" for slot in found] == ["02:30 CET", "02:30 CET"]
    assert [slot.note for slot in found] == ["", ""]


@pytest.mark.req("P1")
def test_a_slot_that_stands_for_a_skipped_wall_time_says_so() -> None:
    spec = ScheduleSpec(cron="30 2 * * *", timezone="Europe/Berlin")

    found = notes(spec, datetime(2027, 3, 27, 12, tzinfo=UTC), 2)

    changed = "the clock has changed: UTC+01:00 before, UTC+02:00 now"
    assert found == [
        ("03-28 03:00", f"in place of 02:30, which does not exist that day; {changed}"),
        ("03-29 02:30", ""),
    ]


@pytest.mark.req("P1")
def test_a_wall_time_that_is_lost_is_told_with_the_next_slot() -> None:
    spec = ScheduleSpec(cron="30 2 * * *", timezone="Europe/Berlin", dst="skip")

    ((local, note),) = notes(spec, datetime(2027, 3, 27, 12, tzinfo=UTC), 1)

    assert local == "03-29 02:30"
    assert note.startswith("none before it where 02:30 did not exist: the clock went from 02:00 to 03:00")


def test_slots_that_a_blackout_takes_are_counted() -> None:
    blackout = Blackout(**{"from": datetime(2026, 11, 22, tzinfo=UTC), "to": datetime(2026, 11, 24, tzinfo=UTC)})
    spec = ScheduleSpec(every=timedelta(hours=12), blackout=(blackout,))

    assert notes(spec, datetime(2026, 11, 21, 18, tzinfo=UTC), 1) == [("11-24 00:00", "4 before it in a blackout")]


@pytest.mark.parametrize("spec", [None, ScheduleSpec(after=("other",))])
def test_what_has_no_times_has_no_slots_to_come(spec: ScheduleSpec | None) -> None:
    assert coming(schedule_of(spec), datetime(2026, 11, 22, tzinfo=UTC), 3) == []


def test_a_schedule_that_ends_has_fewer_slots() -> None:
    spec = ScheduleSpec(cron="0 0 * * *", ends=datetime(2026, 11, 24, 12, tzinfo=UTC))

    assert len(coming(schedule_of(spec), datetime(2026, 11, 22, tzinfo=UTC), 9)) == 2
