"""Schedules as a job's table declares them: intervals, limits, blackouts, what is refused, and how little they cost."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsd.domain import zone
from jobsd.domain.describe import describe
from jobsd.domain.mistakes import mistakes
from jobsd.domain.schedule import After, Manual, ScheduleError, schedule_of
from jobsd.domain.slot import Decision
from tests.domain.schedules import between, calls, first, spec_of, timed, utc

SECOND = timedelta(seconds=1)


@pytest.mark.req("C1")
@pytest.mark.parametrize(
    ("every", "offset", "after", "slots"),
    [
        ("5m", "0s", "2026-11-22 15:01:17", ["2026-11-22 15:05", "2026-11-22 15:10"]),
        ("5m", "0s", "2026-11-22 15:05:00", ["2026-11-22 15:10", "2026-11-22 15:15"]),
        ("5m", "2m", "2026-11-22 15:01:17", ["2026-11-22 15:02", "2026-11-22 15:07"]),
        ("5m", "12m", "2026-11-22 15:01:17", ["2026-11-22 15:02", "2026-11-22 15:07"]),
        ("1s", "0s", "2026-11-22 15:00:59.000001", ["2026-11-22 15:01", "2026-11-22 15:01:01"]),
        ("1d", "3h", "2026-11-22 03:00:00", ["2026-11-23 03:00", "2026-11-24 03:00"]),
        ("7d", "0s", "2026-11-22 00:00:00", ["2026-11-26 00:00", "2026-12-03 00:00"]),  # Thursdays, as the epoch was
        ("1h", "0s", "1969-12-31 22:30:00", ["1969-12-31 23:00", "1970-01-01 00:00"]),
    ],
)
def test_an_interval_is_anchored_at_the_epoch_whenever_it_is_asked(
    every: str, offset: str, after: str, slots: list[str]
) -> None:
    schedule = timed(every=every, offset=offset)

    found = schedule.next_after(utc(after))

    assert found == utc(slots[0])
    assert schedule.next_after(found) == utc(slots[1])
    assert schedule.latest(utc(after), utc(slots[1]), 9) == [utc(slot) for slot in slots]


@pytest.mark.req("P1")
@given(st.integers(1, 10**6), st.integers(0, 10**6), st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1)),
       st.integers(0, 10**6))  # fmt: skip
def test_an_intervals_count_is_the_number_of_its_slots(every: int, offset: int, start: datetime, seconds: int) -> None:
    schedule = timed(every=f"{every}s", offset=f"{offset}s")
    after = start.replace(tzinfo=zone.EPOCH.tzinfo)
    until = after + timedelta(seconds=seconds % (every * 50))

    slots = between(schedule, after, until)

    assert schedule.count(after, until) == len(slots)
    assert schedule.latest(after, until, 100) == slots
    assert all((slot - zone.EPOCH) // SECOND % every == offset % every for slot in slots)


@pytest.mark.req("C1")
@pytest.mark.parametrize(
    ("keys", "code", "field", "message"),
    [
        ({"every": "500ms"}, "E0215", "every", 'every: expected whole seconds, at least "1s", got "500ms"'),
        ({"every": "1500ms"}, "E0215", "every", 'every: expected whole seconds, at least "1s", got "1500ms"'),
        ({"every": "0s"}, "E0215", "every", 'every: expected whole seconds, at least "1s", got "0s"'),
        ({"every": "5s", "offset": "10ms"}, "E0215", "offset", 'offset: expected whole seconds, got "10ms"'),
        ({"every": "5m", "cron": "@daily"}, "E0214", "cron", "expected one of every, cron, after, got every and cron"),
        ({"timezone": "UTC"}, "E0206", "", "expected one of every, cron, after, got none"),
        ({"cron": "@daily", "offset": "5m"}, "E0223", "offset",
         'offset shifts an interval: it goes with "every" alone'),
        ({"cron": "0 25 * * *"}, "E0211", "cron", 'cron: hour must be 0-23, not "25"'),
        ({"cron": "0 0 30 2 *"}, "E0212", "cron", 'cron: "0 0 30 2 *" never fires: no day of 100 years is one'),
        ({"cron": "@daily", "timezone": "Europe/Berln"}, "E0213", "timezone", 'timezone: "Europe/Berln" is not known'),
        ({"cron": "@daily", "timezone": "Europe"}, "E0213", "timezone", 'timezone: "Europe" is not known'),
        ({"cron": "@daily", "timezone": "../x/y"}, "E0213", "timezone", 'timezone: "../x/y" is not known'),
        ({"cron": "@daily", "timezone": "localtime"}, "E0213", "timezone", 'timezone: "localtime" is not known'),
        ({"cron": "@daily", "timezone": ""}, "E0213", "timezone", 'timezone: "" is not known'),
        ({"every": "1h", "starts": "2026-02-01T00:00", "ends": "2026-01-01T00:00"}, "E0223", "ends",
         "ends (2026-01-01 00:00:00) is not after starts (2026-02-01 00:00:00)"),
        ({"after": ["a"], "starts": "2026-02-01T00:00"}, "E0223", "starts",
         'starts does not go with "after", which has no times of its own'),
        ({"every": "1h", "blackout": [{"from": "2026-02-01T00:00"}]}, "E0223", "blackout.0",
         "expected from and to, or cron and duration"),
        ({"every": "1h", "blackout": [{"from": "2026-02-02", "to": "2026-02-01"}]}, "E0223", "blackout.0.to",
         "to (2026-02-01 00:00:00) is not after from (2026-02-02 00:00:00)"),
        ({"every": "1h", "blackout": [{"cron": "0 22 * * *", "duration": "32d"}]}, "E0223", "blackout.0.duration",
         'duration: expected whole seconds, "1s" to "31d", got "32d"'),
        ({"every": "1h", "blackout": [{"cron": "*/5 * * * *", "duration": "1m"}]}, "E0223", "blackout.0.cron",
         'a blackout opens at most once an hour: expected one minute, as in "0 22 * * *"'),
        ({"every": "1h", "blackout": [{"cron": "0 24 * * *", "duration": "1h"}]}, "E0211", "blackout.0.cron",
         'cron: hour must be 0-23, not "24"'),
        ({"cron": "0 12 * * MON", "blackout": [{"cron": "0 0 * * MON", "duration": "1d"}]}, "E0212", "blackout",
         "the schedule never fires: every slot is within a blackout"),
        ({"every": "1h", "blackout": [{"cron": "0 0 * * *", "duration": "2d"}]}, "E0212", "blackout",
         "the schedule never fires: every slot is within a blackout"),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be_is_refused_with_its_key(
    keys: dict[str, object], code: str, field: str, message: str
) -> None:
    with pytest.raises(ScheduleError) as caught:
        schedule_of(spec_of(**keys))

    assert (caught.value.code, caught.value.field, caught.value.message) == (code, field, message)


@pytest.mark.req("C1")
def test_all_mistakes_come_at_once_and_a_mistyped_zone_is_guessed() -> None:
    spec = spec_of(every="10ms", cron="0 25 * * *", timezone="Europe/Berln", blackout=[{"cron": "@daily"}])

    found = list(mistakes(spec))

    assert [error.code for error in found] == ["E0214", "E0215", "E0211", "E0213", "E0223"]
    assert found[3].note == 'did you mean "Europe/Berlin"?'


@pytest.mark.req("C1")
def test_starts_and_ends_are_wall_times_of_the_zone_and_the_end_is_out() -> None:
    schedule = timed(cron="0 * * * *", timezone="Europe/Berlin", starts="2026-07-01T10:00", ends="2026-07-01T13:00")

    slots = between(schedule, utc("2026-01-01"), utc("2027-01-01"))

    assert slots == [utc("2026-07-01 08:00"), utc("2026-07-01 09:00"), utc("2026-07-01 10:00")]
    assert schedule.count(utc("2026-01-01"), utc("2027-01-01")) == 3
    assert schedule.latest(utc("2026-01-01"), utc("2027-01-01"), 9) == slots


@pytest.mark.req("P1")
def test_a_blackout_from_to_takes_its_slots_and_tells_of_them_as_one_stretch() -> None:
    dark = {"from": "2026-12-24T18:00", "to": "2026-12-27T00:00"}
    schedule = timed(cron="0 6,18 * * *", timezone="Europe/Berlin", blackout=[dark])

    found = first(schedule, utc("2026-12-24 00:00"), 2)
    notes = schedule.notes(utc("2026-12-24 00:00"), utc("2026-12-28 00:00"))

    assert found == ["2026-12-24 06:00+01:00", "2026-12-27 06:00+01:00"]
    assert [(note.decision, note.slot_at, note.to_at, note.count) for note in notes] == [
        (Decision.BLACKOUT, utc("2026-12-24 17:00"), utc("2026-12-26 17:00"), 5)
    ]


@pytest.mark.req("P1")
def test_a_recurring_blackout_opens_by_the_zones_wall_clock_and_its_end_is_out() -> None:
    night = {"cron": "0 22 * * MON-FRI", "duration": "8h"}
    schedule = timed(cron="0 */2 * * *", timezone="Europe/Berlin", blackout=[night])

    monday = first(schedule, utc("2026-11-23 17:30"), 3)
    counted = schedule.count(utc("2026-11-21 22:59"), utc("2026-11-28 22:59"))  # Sunday to Saturday

    assert monday == ["2026-11-23 20:00+01:00", "2026-11-24 06:00+01:00", "2026-11-24 08:00+01:00"]
    assert counted == 7 * 12 - 5 * 4
    assert schedule.next_tick_after(utc("2026-11-23 19:00")) == utc("2026-11-23 21:00")


@pytest.mark.req("P1")
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([{"every": "17m"}, {"cron": "*/20 * * * *"}, {"cron": "30 2 * * *"}, {"cron": "0 3,22 * * 0"}]),
    st.lists(st.sampled_from([
        {"cron": "0 23 * * *", "duration": "3h"}, {"cron": "30 2 * * SUN", "duration": "3h"},
        {"from": "2025-12-30T12:00", "to": "2026-01-02T07:00"}, {"cron": "0 0 1 * *", "duration": "3d"},
        {"from": "2026-01-02T07:00", "to": "2026-01-02T09:00"}, {"from": "2026-10-25T02:30", "to": "2026-10-25T03:30"},
    ]), max_size=4),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
    st.sampled_from(["2025-12-28", "2026-03-07", "2026-03-28", "2026-10-24"]),
)  # fmt: skip
def test_slots_and_blackouts_together_are_all_ticks_and_each_agrees_with_a_walk(
    form: dict[str, str], blackout: list[dict[str, str]], name: str, day: str
) -> None:
    schedule, bare = timed(**form, timezone=name, blackout=blackout), timed(**form, timezone=name)
    after, until = utc(day), utc(day) + timedelta(days=7)

    slots, ticks = between(schedule, after, until), between(bare, after, until)
    dark = [note for note in schedule.notes(after, until) if note.decision is Decision.BLACKOUT]

    assert schedule.count(after, until) == len(slots)
    assert schedule.latest(after, until, 1000) == slots
    assert sum(note.count for note in dark) == len(ticks) - len(slots)
    for note in dark:
        inside = [tick for tick in ticks if note.slot_at <= tick <= note.to_at]
        assert (inside[0], inside[-1], len(inside)) == (note.slot_at, note.to_at, note.count)
        assert not set(inside) & set(slots)


@pytest.mark.req("C1", "E2")
@pytest.mark.parametrize("spec", [None, spec_of(after=["other"])])
def test_a_job_without_times_of_its_own_is_never_due_by_the_clock(spec: None) -> None:
    schedule = schedule_of(spec)

    assert isinstance(schedule, After | Manual)
    assert schedule.next_after(utc("2026-01-01")) is None
    assert schedule.count(utc("2000-01-01"), utc("2100-01-01")) == 0
    assert schedule.latest(utc("2000-01-01"), utc("2100-01-01"), 9) == []
    assert schedule.notes(utc("2000-01-01"), utc("2100-01-01")) == []


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"every": "10s"}, "every 10 s"),
        ({"every": "90s"}, "every 1 min 30 s"),
        ({"every": "6h"}, "every 6 h"),
        ({"every": "1d", "offset": "3h"}, "every day, shifted by 3 h"),
        ({"every": "14d"}, "every 2 weeks"),
        ({"every": "10d"}, "every 10 days"),
        ({"cron": "30 2 * * MON-FRI", "timezone": "Europe/Berlin"}, "at 02:30 on Monday to Friday, Europe/Berlin"),
        ({"cron": "@daily"}, "at 00:00 every day, UTC"),
        ({"cron": "*/5 * * * *", "starts": "2026-01-02T03:00"},
         "every fifth minute of every hour, UTC, from 2026-01-02 03:00 UTC"),
        ({"every": "1h", "ends": "2027-01-01T00:00", "blackout": [{"cron": "0 22 * * *", "duration": "8h"}]},
         "every 1 h, until 2027-01-01 00:00 UTC, except in 1 recurring blackout"),
        ({"after": ["a", "b", "c"]}, "after a, b and c"),
    ],
)  # fmt: skip
def test_a_schedule_is_described_in_plain_english(keys: dict[str, object], said: str) -> None:
    assert describe(schedule_of(spec_of(**keys))) == said
    assert describe(schedule_of(None)) == "by hand"


@pytest.mark.req("P1")
@pytest.mark.parametrize("year", [1, 1899, 1900, 9996, 9997, 9998, 9999])
@pytest.mark.parametrize(
    "keys",
    [
        {"every": "1h"},
        {"cron": "30 2 * * *", "timezone": "Pacific/Apia", "dst": "once"},
        {"every": "1h", "starts": "0001-01-01T00:00", "ends": "9999-12-31T00:00"},
        {"cron": "0 * * * *", "blackout": [{"cron": "0 22 * * *", "duration": "8h"}]},
    ],
)
def test_a_clock_at_the_ends_of_time_gets_an_answer(keys: dict[str, object], year: int) -> None:
    schedule, now = timed(**keys), utc(f"{year:04}-12-31 20:00")

    following = schedule.next_after(now)

    assert (following is not None and following > now) if year < 9997 else following is None or year == 9997
    assert all(slot <= now for slot in schedule.latest(utc("0001-01-01"), now, 3))
    assert schedule.count(now, now) == 0 and schedule.notes(now, now) == []


NOW, IN_TEN_YEARS = utc("2026-11-22 15:00"), utc("2036-11-22 15:00")


@pytest.mark.req("P1")
@pytest.mark.parametrize(
    ("keys", "slots", "most"),
    [
        ({"cron": "* * * * *", "timezone": "Europe/Berlin"}, 5_260_320, 40_000),
        ({"cron": "* * * * *", "timezone": "Europe/Berlin", "dst": "literal"}, 5_260_320, 40_000),
        ({"every": "1s"}, 315_619_200, 40),
        ({"cron": "0 0 29 2 *"}, 3, 40_000),
    ],
)
def test_ten_years_are_counted_in_as_many_steps_whatever_the_number_of_slots(
    keys: dict[str, str], slots: int, most: int
) -> None:
    schedule = timed(**keys)

    assert schedule.count(NOW, IN_TEN_YEARS) == slots
    assert calls(lambda: schedule.count(NOW, IN_TEN_YEARS)) < most


@pytest.mark.req("P1")
def test_the_next_slot_costs_few_steps_once_the_year_is_known() -> None:
    schedules = [timed(cron=f"{n % 60} {n % 24} * * *", timezone="Europe/Berlin") for n in range(1000)]

    assert calls(lambda: [schedule.next_after(NOW) for schedule in schedules]) < 60 * 1000
