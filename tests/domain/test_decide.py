"""What becomes of slots that came due: every one in exactly one row, whatever the gap (P1)."""

from datetime import UTC, datetime, timedelta
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsd.domain.decide import CATCH_UP, Down, decide, due_at
from jobsd.domain.job import ScheduleSpec
from jobsd.domain.schedule import schedule_of
from jobsd.domain.slot import Decision, SlotDecision
from tests.domain.schedules import between, calls, spec_of, taken_instants, timed, utc

MICROSECOND = timedelta(microseconds=1)
LOST = (Decision.BLACKOUT, Decision.DAYLIGHT_SAVING)


def decided(
    spec: ScheduleSpec, decided_to: str, now: str, *, enabled: bool = True, down: str = ""
) -> list[SlotDecision]:
    gone = Down(*(utc(at) for at in down.split(" to "))) if down else None
    return decide(schedule_of(spec), spec, "job", enabled=enabled, decided_to=utc(decided_to), now=utc(now), down=gone)


def told(rows: list[SlotDecision]) -> list[str]:
    """ "too_old 3 01:00-03:00", with the day where it is another than 2026-11-22."""

    def short(at: datetime) -> str:
        return f"{at:%H:%M}" if f"{at:%Y-%m-%d}" == "2026-11-22" else f"{at:%Y-%m-%d %H:%M}"

    return [
        f"{row.decision.value} {short(row.slot_at)}"
        + (f" to {short(row.to_at)}: {row.count}" if row.to_at > row.slot_at else "")
        for row in rows
    ]


HOURLY = {"cron": "0 * * * *"}


@pytest.mark.req("P1")
@pytest.mark.parametrize(
    ("keys", "decided_to", "now", "rows"),
    [
        # on time
        ({}, "2026-11-22 14:00", "2026-11-22 15:00", ["ran 15:00"]),
        ({}, "2026-11-22 14:00", "2026-11-22 15:00:10", ["ran 15:00"]),
        ({}, "2026-11-22 15:00", "2026-11-22 15:59:59", []),
        ({"missed": "skip"}, "2026-11-22 14:00", "2026-11-22 15:00:10", ["ran 15:00"]),
        ({"missed_within": "0s"}, "2026-11-22 14:00", "2026-11-22 15:00:10", ["ran 15:00"]),
        # late
        ({}, "2026-11-22 14:00", "2026-11-22 15:00:11", ["caught_up 15:00"]),
        ({}, "2026-11-22 14:00", "2026-11-22 16:00:11", ["too_old 15:00", "caught_up 16:00"]),
        ({"missed_within": "2h"}, "2026-11-22 14:00", "2026-11-22 16:00:11", ["coalesced 15:00", "caught_up 16:00"]),
        ({"missed": "skip"}, "2026-11-22 14:00", "2026-11-22 15:00:11", ["missed 15:00"]),
        ({"missed": "all"}, "2026-11-22 14:00", "2026-11-22 15:00:11", ["caught_up 15:00"]),
        ({"missed_within": "10m"}, "2026-11-22 14:00", "2026-11-22 15:10", ["caught_up 15:00"]),
        ({"missed_within": "10m"}, "2026-11-22 14:00", "2026-11-22 15:10:00.000001", ["too_old 15:00"]),
        # a gap that ends with a slot on time
        ({}, "2026-11-22 11:00", "2026-11-22 15:00:03", ["too_old 12:00 to 14:00: 3", "ran 15:00"]),
        ({}, "2026-11-22 11:00", "2026-11-22 15:00:00", ["too_old 12:00 to 13:00: 2", "coalesced 14:00", "ran 15:00"]),
        ({"missed": "all", "missed_within": "2h"}, "2026-11-22 11:00", "2026-11-22 15:00:00",
         ["too_old 12:00", "caught_up 13:00", "caught_up 14:00", "ran 15:00"]),
        ({"missed": "skip"}, "2026-11-22 11:00", "2026-11-22 15:00", ["missed 12:00 to 14:00: 3", "ran 15:00"]),
        # a gap that ends between slots
        ({}, "2026-11-22 11:00", "2026-11-22 15:30", ["too_old 12:00 to 14:00: 3", "caught_up 15:00"]),
        ({"missed_within": "3h"}, "2026-11-22 11:00", "2026-11-22 15:30",
         ["too_old 12:00", "coalesced 13:00 to 14:00: 2", "caught_up 15:00"]),
        ({"missed": "all", "missed_within": "3h"}, "2026-11-22 11:00", "2026-11-22 15:30",
         ["too_old 12:00", "caught_up 13:00", "caught_up 14:00", "caught_up 15:00"]),
        ({"missed": "skip"}, "2026-11-22 11:00", "2026-11-22 15:30", ["missed 12:00 to 15:00: 4"]),
        # the clock went back
        ({}, "2026-11-22 15:00", "2026-11-22 14:00", []),
        ({}, "2036-11-22 15:00", "2026-11-22 15:00", []),
    ],
)  # fmt: skip
def test_slots_are_run_caught_up_on_coalesced_or_given_up_as_the_policy_says(
    keys: dict[str, str], decided_to: str, now: str, rows: list[str]
) -> None:
    assert told(decided(spec_of(**HOURLY, **keys), decided_to, now)) == rows


@pytest.mark.req("P1")
@pytest.mark.parametrize(
    ("keys", "down", "rows"),
    [
        ({}, "2026-11-22 10:00 to 2026-11-22 15:29", ["no_node 11:00 to 14:00: 4", "caught_up 15:00"]),
        ({}, "2026-11-22 12:00 to 2026-11-22 13:30",
         ["too_old 11:00 to 12:00: 2", "no_node 13:00", "too_old 14:00", "caught_up 15:00"]),
        ({"missed": "skip"}, "2026-11-22 10:00 to 2026-11-22 13:00",
         ["no_node 11:00 to 13:00: 3", "missed 14:00 to 15:00: 2"]),
        ({"missed": "all", "missed_within": "2h"}, "2026-11-21 00:00 to 2026-11-22 15:29",
         ["no_node 11:00 to 13:00: 3", "caught_up 14:00", "caught_up 15:00"]),
        ({"missed_within": "1d"}, "2026-11-22 10:00 to 2026-11-22 15:29",
         ["coalesced 11:00 to 14:00: 4", "caught_up 15:00"]),
        ({}, "2026-11-22 08:00 to 2026-11-22 09:00", ["too_old 11:00 to 14:00: 4", "caught_up 15:00"]),
    ],
)  # fmt: skip
def test_slots_that_nobody_was_up_for_say_so_unless_they_are_caught_up_on(
    keys: dict[str, str], down: str, rows: list[str]
) -> None:
    assert told(decided(spec_of(**HOURLY, **keys), "2026-11-22 10:00", "2026-11-22 15:30", down=down)) == rows


@pytest.mark.req("P1")
def test_a_disabled_job_gets_one_row_for_all_its_slots_and_blackouts() -> None:
    night = {"cron": "0 22 * * *", "duration": "8h"}
    spec = spec_of(**HOURLY, blackout=[night])

    rows = decided(spec, "2026-11-21 12:00", "2026-11-22 12:00", enabled=False)

    assert told(rows) == ["disabled 2026-11-21 13:00 to 12:00: 24"]
    assert decided(spec, "2026-11-22 12:00", "2026-11-22 12:59", enabled=False) == []


@pytest.mark.req("P1")
def test_blackouts_and_daylight_saving_get_rows_of_their_own_with_their_reasons() -> None:
    night = {"from": "2026-10-25T06:00", "to": "2026-10-25T08:00"}
    spec = spec_of(cron="30 0-8 * * *", timezone="Europe/Berlin", dst="skip", blackout=[night], missed_within="1d")

    rows = decided(spec, "2026-10-24 21:00", "2026-10-25 07:30:05")

    assert [(row.decision.value, row.count, row.reason) for row in rows] == [
        ("coalesced", 6, "the run of 2026-10-25T07:30:00+00:00 stands for it"),
        ("daylight_saving", 1, "02:30 had been already: the clock went from 03:00 to 02:00"),
        ("blackout", 2, "within a blackout"),
        ("ran", 1, ""),
    ]


@pytest.mark.req("P1")
@pytest.mark.parametrize("missed", ["skip", "once", "all"])
def test_at_most_a_hundred_slots_are_caught_up_on_and_the_rest_is_counted(missed: str) -> None:
    spec = spec_of(every="1s", missed=missed, missed_within="30d")

    rows = decided(spec, "2026-11-01 00:00", "2026-11-22 15:00:00.5")

    runs = [row for row in rows if row.due_at]
    assert len(runs) == {"skip": 1, "once": 1, "all": CATCH_UP + 1}[missed]
    assert sum(row.count for row in rows) == (21 * 24 + 15) * 3600
    assert all(row.count == 1 and row.slot_at == row.to_at for row in runs)
    assert len(rows) <= CATCH_UP + 2


@pytest.mark.req("P1")
@pytest.mark.parametrize(
    "keys",
    [
        {"every": "1s"},
        {"cron": "* * * * *", "timezone": "Europe/Berlin"},
        {"cron": "* * * * *", "timezone": "Europe/Berlin", "missed": "all", "missed_within": "36500d", "dst": "skip"},
    ],
)
def test_a_clock_that_steps_forward_by_ten_years_costs_a_bounded_number_of_steps(keys: dict[str, str]) -> None:
    spec = spec_of(**keys)
    schedule, start, end = timed(**keys), utc("2026-11-22 15:00"), utc("2036-11-22 15:00:30")

    rows = decide(schedule, spec, "job", enabled=True, decided_to=start, now=end)

    assert sum(row.count for row in rows if row.decision is not Decision.DAYLIGHT_SAVING) == schedule.count(start, end)
    assert calls(lambda: decide(schedule, spec, "job", enabled=True, decided_to=start, now=end)) < 60_000


@pytest.mark.req("P1")
def test_ten_years_of_nightly_blackouts_are_a_hundred_rows_and_an_exact_rest() -> None:
    spec = spec_of(cron="*/10 * * * *", blackout=[{"cron": "0 22 * * *", "duration": "8h"}], missed="all")
    schedule, start, end = schedule_of(spec), utc("2026-11-22 15:00"), utc("2036-11-22 15:00:30")

    rows = decide(schedule, spec, "job", enabled=True, decided_to=start, now=end)

    dark = [row for row in rows if row.decision is Decision.BLACKOUT]
    assert len(dark) == 101
    assert (dark[0].slot_at, dark[0].count) == (utc("2026-11-22 22:00"), 3553 * 48)
    assert all(row.count == 48 for row in dark[1:])
    assert sum(row.count for row in rows) == 3653 * 144


@pytest.mark.req("P1")
def test_even_the_worst_of_gaps_is_at_most_310_rows() -> None:
    spec = spec_of(
        cron="*/10 * * * *", timezone="America/New_York", dst="skip", missed="all", missed_within="30000d",
        blackout=[{"cron": "0 22 * * *", "duration": "8h"}],
    )  # fmt: skip
    start, now = utc("1972-01-01"), utc("2046-11-22 21:00:05")

    rows = decide(
        schedule_of(spec), spec, "job", enabled=True, decided_to=start, now=now,
        down=Down(utc("1980-01-01"), utc("1990-01-01")),
    )  # fmt: skip

    for kind in (Decision.BLACKOUT, Decision.DAYLIGHT_SAVING):
        assert sum(row.decision is kind for row in rows) == 101
    assert len(rows) <= 310
    days, springs, in_a_gap = (utc("2046-11-22") - start).days, 75, 6
    assert sum(row.count for row in rows) == days * 144 + 21 * 6 + springs * in_a_gap


@pytest.mark.req("P1")
@settings(max_examples=250, deadline=None)
@given(
    form=st.sampled_from([
        {"every": "7m"}, {"every": "1h", "offset": "13m"}, {"cron": "*/20 * * * *"}, {"cron": "30 2 * * *"},
        {"cron": "0,20,40 2,3 * * *"}, {"cron": "0 * * * MON"}, {"cron": "45 1-4 * * *"},
    ]),
    dst=st.sampled_from(["debian", "literal", "skip", "once"]),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]),
    blackout=st.lists(st.sampled_from([
        {"cron": "0 23 * * *", "duration": "2h"}, {"from": "2026-10-25T02:10", "to": "2026-10-26T00:00"},
        {"cron": "0 2 * * SUN", "duration": "1h"},
    ]), max_size=2),
    missed=st.sampled_from(["skip", "once", "all"]),
    within=st.sampled_from(["0s", "5s", "1h", "9h", "10d"]),
    start=st.datetimes(datetime(2026, 3, 5), datetime(2026, 3, 30))
    | st.datetimes(datetime(2026, 10, 1), datetime(2026, 11, 2)),
    gap=st.timedeltas(timedelta(0), timedelta(days=4)),
    whole=st.booleans(),
    down=st.none() | st.tuples(st.integers(-20, 100), st.integers(0, 100)),
)  # fmt: skip
def test_every_instant_is_in_exactly_one_row_and_rows_are_ordered_and_bounded(
    form: dict[str, str], dst: str, zone: str, blackout: list[dict[str, str]], missed: str, within: str,
    start: datetime, gap: timedelta, whole: bool, down: tuple[int, int] | None,
) -> None:  # fmt: skip
    spec = spec_of(**form, dst=dst, timezone=zone, blackout=blackout, missed=missed, missed_within=within)
    schedule, bare = schedule_of(spec), timed(**form, dst=dst, timezone=zone)
    after = start.replace(
        tzinfo=UTC, second=0 if whole else start.second, microsecond=0 if whole else start.microsecond
    )
    now = after + gap
    gone = Down(after + timedelta(hours=down[0]), after + timedelta(hours=sum(down))) if down else None

    rows = decide(schedule, spec, "job", enabled=True, decided_to=after, now=now, down=gone)

    slots = set(between(timed(**form, dst=dst, timezone=zone, blackout=blackout), after, now))
    kinds = {
        Decision.BLACKOUT: set(between(bare, after, now)) - slots,
        Decision.DAYLIGHT_SAVING: set(taken_instants(bare, after, now)),
    }
    assert [row.slot_at for row in rows] == sorted({row.slot_at for row in rows})
    assert len(rows) <= 310
    for row in rows:
        own = kinds.get(row.decision, slots)
        covered = sorted(at for at in own if row.slot_at <= at <= row.to_at)
        assert (covered[0], covered[-1], len(covered)) == (row.slot_at, row.to_at, row.count)
        assert (row.due_at is not None) == (row.decision in (Decision.RAN, Decision.CAUGHT_UP))
        own.difference_update(covered)  # a second row for any of them would not find it
    assert not slots and not any(kinds.values())


@pytest.mark.req("P2")
def test_jitter_is_the_same_on_every_node_and_spread_evenly() -> None:
    hour, slots = timedelta(hours=1), [utc("2026-11-22 00:00") + timedelta(days=n) for n in range(2000)]

    delays = [(due_at("job", slot, hour) - slot) / hour for slot in slots]

    # printf 'backup\\0002026-11-22T03:00:00+00:00' | sha256sum: its first 48 bits, as a part of an hour
    assert due_at("backup", utc("2026-11-22 03:00"), hour) == utc("2026-11-22 03:13:06.477838")
    assert due_at("other", slots[0], hour) != due_at("job", slots[0], hour)
    assert due_at("job", slots[0], timedelta(0)) == slots[0]
    assert 0 <= min(delays) < 0.01 and 0.99 < max(delays) <= 1
    assert abs(mean(delays) - 0.5) < 0.02
    tenths = [sum(n / 10 <= delay < (n + 1) / 10 for delay in delays) for n in range(10)]
    assert min(tenths) > 150 and max(tenths) < 250


@pytest.mark.req("P2")
def test_a_run_is_due_after_its_slot_by_the_jitter_and_nothing_else_is_due() -> None:
    spec = spec_of(every="1h", jitter="10m", missed="all", missed_within="3h")

    rows = decided(spec, "2026-11-22 12:00", "2026-11-22 15:00")

    assert [row.due_at for row in rows] == [due_at("job", row.slot_at, timedelta(minutes=10)) for row in rows]
    assert all(row.due_at and row.slot_at <= row.due_at <= row.slot_at + timedelta(minutes=10) for row in rows)
