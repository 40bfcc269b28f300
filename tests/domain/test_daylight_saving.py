"""The four rules for hours that a clock skips or shows twice, and what each takes away.

Berlin 2025: 30 March 02:00 -> 03:00 (01:00 UTC), 26 October 03:00 -> 02:00 (01:00 UTC).
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given, settings
from hypothesis import strategies as st

from jobsd.domain.slot import Decision
from tests.domain.schedules import Timed, between, first, taken_instants, timed, utc

pytestmark = pytest.mark.fault(18)
BERLIN, SPRING, AUTUMN = "Europe/Berlin", "03-30", "10-26"
GAP = "did not exist: the clock went from 02:00 to 03:00"
AGAIN = "had been already: the clock went from 03:00 to 02:00"


def day_of(cron: str, rule: str, day: str, zone: str = BERLIN) -> str:
    """The slots of one local day of 2025 as "HH:MM+offset", in one line."""
    start = datetime.fromisoformat(f"2025-{day}").replace(tzinfo=ZoneInfo(zone))
    end = (start + timedelta(days=1)).astimezone(UTC) - timedelta(seconds=1)
    slots = between(timed(cron=cron, timezone=zone, dst=rule), start - timedelta(seconds=1), end)
    return " ".join(f"{slot.astimezone(ZoneInfo(zone)):%H:%M%z}".removesuffix("00") for slot in slots)


# What cron(8) of Debian says. Jobs at fixed times: those of a gap run soon after it, those of a repeated hour are not
# run again. Jobs with a star in hour or minute: by the new time at once. Changes of more than 3 h: by the new time.
@pytest.mark.req("E2", "P1")
@pytest.mark.parametrize(
    ("cron", "day", "slots"),
    [
        ("30 1 * * *", SPRING, "01:30+01"),
        ("30 2 * * *", SPRING, "03:00+02"),  # right after the jump
        ("0 2 * * *", SPRING, "03:00+02"),
        ("0 3 * * *", SPRING, "03:00+02"),
        ("30 3 * * *", SPRING, "03:30+02"),
        ("0,30 2 * * *", SPRING, "03:00+02"),  # all of the gap's times are one run
        ("30 2,3 * * *", SPRING, "03:00+02 03:30+02"),
        ("0 2,3 * * *", SPRING, "03:00+02"),
        ("5,35 1-3 * * *", SPRING, "01:05+01 01:35+01 03:00+02 03:05+02 03:35+02"),
        ("30 2 * * *", AUTUMN, "02:30+02"),  # the first of the two
        ("0 2 * * *", AUTUMN, "02:00+02"),
        ("0 3 * * *", AUTUMN, "03:00+01"),
        ("0,30 1-3 * * *", AUTUMN, "01:00+02 01:30+02 02:00+02 02:30+02 03:00+01 03:30+01"),
        ("*/30 2 * * *", SPRING, ""),  # a star in the minute: no clock shows 02:00
        ("*/30 2 * * *", AUTUMN, "02:00+02 02:30+02 02:00+01 02:30+01"),
        ("30 */8 * * *", SPRING, "00:30+01 08:30+02 16:30+02"),
        ("30 */2 * * *", SPRING, "00:30+01 04:30+02 06:30+02 08:30+02 10:30+02 12:30+02 14:30+02 16:30+02 "
                                 "18:30+02 20:30+02 22:30+02"),  # a star in the hour
        ("30 */6 * * *", AUTUMN, "00:30+02 06:30+01 12:30+01 18:30+01"),
        ("0 */2 26 * *", AUTUMN, "00:00+02 02:00+02 02:00+01 04:00+01 06:00+01 08:00+01 10:00+01 12:00+01 "
                                 "14:00+01 16:00+01 18:00+01 20:00+01 22:00+01"),
    ],
)  # fmt: skip
def test_debian_is_the_default_and_does_what_its_manual_says(cron: str, day: str, slots: str) -> None:
    assert day_of(cron, "debian", day) == slots
    assert timed(cron=cron, timezone=BERLIN) == timed(cron=cron, timezone=BERLIN, dst="debian")


@pytest.mark.req("E2", "P1")
@pytest.mark.parametrize(
    ("rule", "cron", "spring", "autumn"),
    [
        ("literal", "30 2 * * *", "", "02:30+02 02:30+01"),
        ("skip", "30 2 * * *", "", "02:30+02"),
        ("once", "30 2 * * *", "03:00+02", "02:30+02"),
        ("debian", "30 2 * * *", "03:00+02", "02:30+02"),
        ("literal", "*/30 2 * * *", "", "02:00+02 02:30+02 02:00+01 02:30+01"),
        ("skip", "*/30 2 * * *", "", "02:00+02 02:30+02"),
        ("once", "*/30 2 * * *", "03:00+02", "02:00+02 02:30+02"),
        ("debian", "*/30 2 * * *", "", "02:00+02 02:30+02 02:00+01 02:30+01"),
        ("once", "30 2,3 * * *", "03:00+02 03:30+02", "02:30+02 03:30+01"),
        ("skip", "30 2,3 * * *", "03:30+02", "02:30+02 03:30+01"),
    ],
)
def test_the_four_rules_differ_in_gaps_and_repeated_hours_alone(rule: str, cron: str, spring: str, autumn: str) -> None:
    assert day_of(cron, rule, SPRING) == spring
    assert day_of(cron, rule, AUTUMN) == autumn
    assert day_of(cron, rule, "06-15") == day_of(cron, "literal", "06-15")


@pytest.mark.req("E2", "P1")
@pytest.mark.parametrize(
    ("rule", "slots"),
    [
        ("debian", ["2011-12-29 02:30-10:00", "2011-12-31 02:30+14:00"]),  # more than 3 h: a correction
        ("literal", ["2011-12-29 02:30-10:00", "2011-12-31 02:30+14:00"]),
        ("skip", ["2011-12-29 02:30-10:00", "2011-12-31 02:30+14:00"]),
        ("once", ["2011-12-29 02:30-10:00", "2011-12-31 00:00+14:00", "2011-12-31 02:30+14:00"]),
    ],
)
def test_apias_missing_day_is_made_up_for_by_the_rule_once_alone(rule: str, slots: list[str]) -> None:
    apia = timed(cron="30 2 * * *", timezone="Pacific/Apia", dst=rule)

    assert first(apia, utc("2011-12-28 20:00"), len(slots)) == slots


@pytest.mark.req("E2")
@pytest.mark.parametrize(
    ("zone", "after", "slot"),
    [
        ("Antarctica/Troll", "2025-03-29 12:00", "2025-03-30 03:00+02:00"),  # 2 h forward: right after the jump
        ("Antarctica/Casey", "2009-10-17 12:00", "2009-10-18 05:00+11:00"),  # 3 h forward: as well, that is the bound
        ("Antarctica/Vostok", "1994-10-31 12:00", "1994-11-02 02:30+07:00"),  # 7 h forward: a correction
    ],
)
def test_debians_bound_is_three_hours(zone: str, after: str, slot: str) -> None:
    assert first(timed(cron="30 2 * * *", timezone=zone), utc(after), 1) == [slot]


def told(schedule: Timed, after: str, until: str) -> list[tuple[str, int, str]]:
    rows = schedule.notes(utc(after), utc(until))
    assert all(row.decision is Decision.DAYLIGHT_SAVING for row in rows)
    return [(f"{row.slot_at:%m-%d %H:%M:%S.%f}", row.count, row.reason) for row in rows]


@pytest.mark.req("P1")
@pytest.mark.parametrize(
    ("rule", "cron", "taken"),
    [
        ("literal", "30 2 * * *", [("03-30 00:59:59.999970", 1, f"02:30 {GAP}")]),
        ("skip", "30 2 * * *", [("03-30 00:59:59.999970", 1, f"02:30 {GAP}"),
                                ("10-26 01:30:00.000000", 1, f"02:30 {AGAIN}")]),
        ("once", "30 2 * * *", [("10-26 01:30:00.000000", 1, f"02:30 {AGAIN}")]),
        ("debian", "30 2 * * *", [("10-26 01:30:00.000000", 1, f"02:30 {AGAIN}")]),
        ("debian", "0,20,40 2 * * *",
         [("03-30 00:59:59.999960", 2, f"02:20 to 02:40 {GAP}"),
          ("10-26 01:00:00.000000", 3, f"02:00 to 02:40 {AGAIN}")]),
        ("debian", "*/20 * * * *", []),
        ("skip", "*/20 2 * * *",
         [("03-30 00:59:59.999940", 3, f"02:00 to 02:40 {GAP}"),
          ("10-26 01:00:00.000000", 3, f"02:00 to 02:40 {AGAIN}")]),
        ("debian", "30 4 * * *", []),
    ],
)  # fmt: skip
def test_what_a_rule_takes_away_is_told_with_an_instant_and_a_reason(
    rule: str, cron: str, taken: list[tuple[str, int, str]]
) -> None:
    assert told(timed(cron=cron, timezone=BERLIN, dst=rule), "2025-01-01", "2025-12-31") == taken


@pytest.mark.req("P1")
def test_apias_missing_day_is_told_with_its_dates() -> None:
    apia = timed(cron="30 2 * * *", timezone="Pacific/Apia")

    assert told(apia, "2011-12-30 09:00", "2011-12-30 11:00") == [
        ("12-30 09:59:59.998710", 1, "02:30 did not exist: the clock went from 2011-12-30 00:00 to 2011-12-31 00:00")
    ]


@lru_cache(maxsize=64)
def real_minutes(zone: str, start: datetime, end: datetime) -> list[tuple[datetime, datetime]]:
    """(instant, wall clock) of every real minute: the oracle of the next test walks them one by one."""
    minutes = int((end - start) / timedelta(minutes=1))
    instants = (start + timedelta(minutes=number) for number in range(1, minutes + 1))
    return [(at, at.astimezone(ZoneInfo(zone)).replace(tzinfo=None)) for at in instants]


def matching(cron: str, walls: list[datetime]) -> set[datetime]:
    sim = CronSim(cron, datetime(2000, 1, 1))
    return {
        wall for wall in walls
        if wall.minute in sim.minutes and wall.hour in sim.hours and wall.month in sim.months and sim.match_day(wall)
    }  # fmt: skip


def by_hand(cron: str, rule: str, zone: str, start: datetime, end: datetime) -> Iterator[tuple[str, datetime]]:
    """The rules once more, minute by minute: each slot, each repeated time that is lost, each one lost in a gap."""
    fixed = not any(field.startswith("*") for field in cron.split()[:2])
    real = real_minutes(zone, start - timedelta(days=2), end)
    every = [real[0][1] + timedelta(minutes=number) for number in range(-1500, len(real) + 3000)]
    wanted, before = matching(cron, every), real[0][1] - timedelta(minutes=1)
    seen: set[datetime] = set()
    for at, wall in real:
        jump = wall - before - timedelta(minutes=1)
        made_up = rule == "once" or (rule == "debian" and fixed and jump <= timedelta(hours=3))
        gap = {before + timedelta(minutes=number) for number in range(1, int(jump / timedelta(minutes=1)) + 1)} & wanted
        once = rule in ("skip", "once") or (rule == "debian" and fixed and "Vostok" not in zone)  # 7 h back
        if at > start:
            told = fixed or rule != "debian"
            yield from (("gap", at) for _ in range(len(gap) - (made_up and bool(gap) and wall not in wanted)) if told)
            if wall in wanted and wall in seen and once:
                yield "again", at
            elif wall in wanted or (made_up and gap):
                yield "slot", at
        seen.add(wall)
        before = wall


@pytest.mark.req("E2", "P1")
@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["*", "*/17", "0", "0,30", "15-45/15", "59"]),
    st.sampled_from(["*", "*/3", "0", "1,2", "23", "0-4"]),
    st.sampled_from(["* * *", "*/2 * *", "30,31 * SUN", "L * *", "* * SAT"]),
    st.sampled_from(["debian", "literal", "skip", "once"]),
    st.sampled_from([
        ("Europe/Berlin", "2025-03-30"), ("Europe/Berlin", "2025-10-26"), ("Pacific/Apia", "2011-12-30"),
        ("America/Sao_Paulo", "2018-11-04"), ("America/Sao_Paulo", "2018-02-18"), ("Australia/Lord_Howe", "2025-04-06"),
        ("Australia/Lord_Howe", "2025-10-05"), ("Antarctica/Troll", "2025-10-26"), ("Asia/Dhaka", "2009-12-31"),
        ("Pacific/Kwajalein", "1993-08-21"), ("Antarctica/Vostok", "1994-01-31"), ("Asia/Kathmandu", "1985-12-31"),
    ]),
)  # fmt: skip
def test_every_slot_and_every_count_is_what_a_walk_over_all_real_minutes_finds(
    minute: str, hour: str, days: str, rule: str, jump: tuple[str, str]
) -> None:
    cron, (zone, day) = f"{minute} {hour} {days}", jump
    start, end = utc(day) - timedelta(days=2), utc(day) + timedelta(days=3)
    schedule = timed(cron=cron, timezone=zone, dst=rule)

    found = list(by_hand(cron, rule, zone, start, end))
    expected = [at for kind, at in found if kind == "slot"]

    assert between(schedule, start, end) == expected
    assert schedule.latest(start, end, 10_000) == expected
    assert schedule.count(start, end) == len(expected)
    assert [schedule.next_after(slot - timedelta(seconds=1)) for slot in expected] == expected
    lost = taken_instants(schedule, start, end)
    assert [at for at in lost if not at.microsecond] == [at for kind, at in found if kind == "again"]
    gaps = [at for at in lost if at.microsecond]
    assert [at + timedelta(seconds=1) - timedelta(microseconds=at.microsecond) for at in gaps] == [
        at for kind, at in found if kind == "gap"
    ]
    assert gaps == sorted(set(gaps))
