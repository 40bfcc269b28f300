"""Live comparison with three programs that nobody here wrote: cronsim, croniter and systemd.

We follow Debian. cronsim does too, with three exceptions that have a test each: after Apia's missing day it makes a
run up; on the day of Lord Howe's half hour it steps over half an hour of a job with a wildcard; and in Sao Paulo's gap
at midnight it starts such a job at an hour that does not match. croniter repeats fixed times in a repeated hour.
systemd skips what falls in a gap and runs repeated times once, which is our `skip`.
"""

import random
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.domain.schedules import between, first, timed, utc, walk

SYSTEMD = shutil.which("systemd-analyze")
JUMPS = [
    ("Europe/Riga", "2021-03-28"),
    ("Europe/Riga", "2021-10-31"),
    ("America/New_York", "2025-03-09"),
    ("America/New_York", "2025-11-02"),
    ("Australia/Lord_Howe", "2025-04-06"),  # half an hour back
    ("Australia/Lord_Howe", "2025-10-05"),  # half an hour forward
    ("America/Sao_Paulo", "2018-02-18"),  # back at midnight
    ("America/Sao_Paulo", "2018-11-04"),  # forward at midnight
    ("Antarctica/Troll", "2025-03-30"),  # two hours forward
    ("Africa/Casablanca", "2025-02-23"),
    ("Asia/Tokyo", "2025-03-30"),  # none
]
CRONSIM_DIFFERS = {
    ("Australia/Lord_Howe", "2025-04-06"),
    ("Australia/Lord_Howe", "2025-10-05"),
    ("America/Sao_Paulo", "2018-11-04"),
}
MINUTES = ["*", "0", "30", "15,45", "*/7", "10-50/20", "59"]
HOURS = ["*", "0", "1", "2", "3", "*/2", "1-4", "0,2,23", "1-23/2"]
DAYS = ["*", "1", "28-31", "*/2", "L", "4,9"]
WEEKDAYS = ["*", "SUN", "1-5", "*/3", "0#1", "7L"]
expressions = st.builds(
    lambda *fields: " ".join(fields),
    st.sampled_from(MINUTES), st.sampled_from(HOURS), st.sampled_from(DAYS), st.sampled_from(["*", "2-4,9-12"]),
    st.sampled_from(WEEKDAYS),
)  # fmt: skip


def around(jump: tuple[str, str], days: int = 3) -> tuple[datetime, datetime]:
    middle = utc(jump[1])
    return middle - timedelta(days=days), middle + timedelta(days=days)


@pytest.mark.req("E2")
@settings(max_examples=300, deadline=None)
@given(expressions, st.sampled_from(JUMPS))
def test_cronsim_agrees_on_every_slot_around_a_jump_of_the_clock(cron: str, jump: tuple[str, str]) -> None:
    after, until = around(jump)
    minute, hour = cron.split()[:2]
    assume(jump not in CRONSIM_DIFFERS or "*" not in minute + hour)
    oracle, slots = CronSim(cron, after.astimezone(ZoneInfo(jump[0]))), []
    while (slot := next(oracle, until + timedelta(1)).astimezone(UTC)) <= until:
        slots.append(slot)

    assert between(timed(cron=cron, timezone=jump[0]), after, until) == slots


@pytest.mark.req("E2")
@settings(max_examples=200, deadline=None)
@given(expressions, st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)))
def test_cronsim_agrees_on_the_next_slots_without_daylight_saving(cron: str, start: datetime) -> None:
    oracle, ours = CronSim(cron, start), walk(timed(cron=cron), start.replace(tzinfo=UTC))

    assert [next(ours) for _ in range(5)] == [next(oracle).replace(tzinfo=UTC) for _ in range(5)]


@pytest.mark.req("E2")
@settings(max_examples=150, deadline=None)
@given(expressions, st.datetimes(datetime(2000, 1, 1), datetime(2090, 1, 1)))
def test_croniter_agrees_on_the_next_slots_when_told_of_the_rule_of_the_star(cron: str, start: datetime) -> None:
    cron = cron.replace("7L", "L6")  # its word for the last Sunday: no number 7 there
    assume("L6" not in cron and "#" not in cron)  # croniter ORs these; cronsim, whose words they are, does not
    oracle = croniter(cron, start, implement_cron_bug=True, ret_type=datetime)
    ours = walk(timed(cron=cron), start.replace(tzinfo=UTC))

    assert [next(ours) for _ in range(5)] == [oracle.get_next().replace(tzinfo=UTC) for _ in range(5)]


@pytest.mark.req("E2")
@pytest.mark.parametrize("jump", JUMPS)
@pytest.mark.parametrize("cron", ["* * * * *", "*/30 * * * *", "0 * * * *", "15 * * * *"])
def test_croniter_agrees_that_a_job_of_every_hour_follows_real_time(cron: str, jump: tuple[str, str]) -> None:
    after, until = around(jump, days=1)
    oracle, slots = croniter(cron, after.astimezone(ZoneInfo(jump[0])), ret_type=datetime), []
    while (slot := oracle.get_next().astimezone(UTC)) <= until:
        slots.append(slot)

    assert between(timed(cron=cron, timezone=jump[0]), after, until) == slots


@pytest.mark.req("E2")
def test_cronsim_steps_over_half_an_hour_at_lord_howe_where_we_run_each_minute_whose_clock_matches() -> None:
    zone, after = ZoneInfo("Australia/Lord_Howe"), utc("2025-04-05 14:00")  # the day that is half an hour longer

    assert next(CronSim("* 0 * * *", after.astimezone(zone))).isoformat() == "2025-04-07T00:30:00+10:30"
    assert first(timed(cron="* 0 * * *", timezone=zone.key), after, 1) == ["2025-04-07 00:00+10:30"]


@pytest.mark.req("E2")
def test_cronsim_starts_a_wildcard_job_in_sao_paulos_gap_where_we_start_none_as_no_clock_shows_its_hour() -> None:
    zone, after = ZoneInfo("America/Sao_Paulo"), utc("2018-11-03 04:00")

    assert next(CronSim("* 0 * * SUN", after.astimezone(zone))).astimezone(UTC) == utc("2018-11-04 03:00")
    assert first(timed(cron="* 0 * * SUN", timezone=zone.key), after, 1) == ["2018-11-11 00:00-02:00"]


@pytest.mark.req("E2")
def test_croniter_repeats_a_fixed_time_where_we_follow_debian_and_run_it_once() -> None:
    zone, after = ZoneInfo("America/New_York"), utc("2025-11-02 04:00")
    oracle = croniter("30 1 * * *", after.astimezone(zone), ret_type=datetime)

    assert [oracle.get_next().astimezone(UTC) for _ in range(2)] == [utc("2025-11-02 05:30"), utc("2025-11-02 06:30")]
    slots = walk(timed(cron="30 1 * * *", timezone=zone.key), after)
    assert [next(slots) for _ in range(2)] == [utc("2025-11-02 05:30"), utc("2025-11-03 06:30")]


@pytest.mark.req("E2")
def test_cronsim_makes_up_for_a_missing_day_where_we_follow_debian_and_take_it_for_a_correction() -> None:
    zone, after = ZoneInfo("Pacific/Apia"), utc("2011-12-29 12:30")
    oracle = CronSim("30 2 * * *", after.astimezone(zone))

    assert next(oracle).astimezone(UTC) == utc("2011-12-30 10:00")
    assert timed(cron="30 2 * * *", timezone=zone.key).next_after(after) == utc("2011-12-30 12:30")  # the 31st there


def systemd(calendar: str, zone: str, after: datetime, number: int) -> list[datetime]:
    """The next elapses of a systemd timer."""
    assert SYSTEMD
    base = f"{after:%Y-%m-%d %H:%M:%S} UTC"
    command = [SYSTEMD, "calendar", f"--base-time={base}", f"--iterations={number}", f"{calendar} {zone}"]
    environment = {"TZ": "UTC", "LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    found = re.findall(r"(?:Next elapse|Iter\. #\d+): \w{3} (\S+ \S+) UTC", said)
    return [utc(at) for at in found]


@pytest.mark.req("E2")
@pytest.mark.skipif(SYSTEMD is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
@pytest.mark.parametrize(
    ("cron", "calendar"),
    [
        ("30 2 * * *", "*-*-* 02:30:00"),
        ("30 1 * * *", "*-*-* 01:30:00"),
        ("0 0 1 * *", "*-*-01 00:00:00"),
        ("15 6 * * MON-FRI", "Mon..Fri *-*-* 06:15:00"),
        ("0 2 15 */3 *", "*-01,04,07,10-15 02:00:00"),
        ("45 23 29 2 *", "*-02-29 23:45:00"),
        ("0,20 2,14 * * SUN", "Sun *-*-* 02,14:00,20:00"),
    ],
)
def test_systemd_agrees_with_our_rule_skip(cron: str, calendar: str, zone: str) -> None:
    schedule = timed(cron=cron, timezone=zone, dst="skip")

    for base in ("2025-03-08 00:00", "2025-03-29 00:00", "2025-10-04 00:00", "2025-10-25 00:00", "2025-11-01 00:00"):
        oracle = systemd(calendar, zone, utc(base), 4)
        ours = walk(schedule, utc(base))
        assert [next(ours) for _ in range(4)] == oracle
        assert len(oracle) == 4


@pytest.mark.req("E2")
@pytest.mark.skipif(SYSTEMD is None, reason="needs systemd-analyze")
def test_systemd_agrees_on_wildcards_where_no_clock_jumps() -> None:
    chosen = random.Random(7)
    for _ in range(12):
        minute, step = chosen.randrange(60), chosen.choice([2, 3, 4, 6, 8, 12])
        base = utc("2025-01-01") + timedelta(minutes=chosen.randrange(525_600))
        ours = walk(timed(cron=f"{minute} */{step} * * *", dst="skip"), base)

        assert [next(ours) for _ in range(4)] == systemd(f"*-*-* 0/{step}:{minute}:00", "UTC", base, 4)
