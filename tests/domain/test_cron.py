"""Cron expressions: what is read, what is refused, and where the caret goes."""

import pytest

from jobsd.domain.cron import LONGEST, NICKNAMES, ScheduleError, parse
from tests.domain.schedules import first, timed, utc


def mistake(text: str) -> ScheduleError:
    with pytest.raises(ScheduleError) as caught:
        parse(text)
    return caught.value


@pytest.mark.req("C1", "E2")
@pytest.mark.parametrize(
    ("text", "message", "underlined"),
    [
        ("30 25 * * *", 'cron: hour must be 0-23, not "25"', "25"),
        ("60 2 * * *", 'cron: minute must be 0-59, not "60"', "60"),
        ("30 2 32 * *", 'cron: day of the month must be 1-31, L or LW, not "32"', "32"),
        ("30 2 0 * *", 'cron: day of the month must be 1-31, L or LW, not "0"', "0"),
        ("30 2 * 13 *", 'cron: month must be 1-12 or JAN-DEC, not "13"', "13"),
        ("30 2 * JANU *", 'cron: month must be 1-12 or JAN-DEC, not "JANU"', "JANU"),
        ("0 0 * * 8", 'cron: day of the week must be 0-7 (0 and 7 are Sunday), SUN-SAT, 5L or 1#2, not "8"', "8"),
        ("0 0 * * 1#6", 'cron: day of the week must be 0-7 (0 and 7 are Sunday), SUN-SAT, 5L or 1#2, not "1#6"', "1#6"),
        ("0   9,12,24   * * *", 'cron: hour must be 0-23, not "24"', "24"),
        ("0 9, * * *", 'cron: hour must be 0-23, not ""', " "),
        ("*/0 * * * *", 'cron: minute: a step is 1 or more, not "*/0"', "*/0"),
        ("5/ * * * *", 'cron: minute must be 0-59, not "5/"', "5/"),
        ("0 17-9 * * *", 'cron: hour: a range goes upwards, "17-9" does not', "17-9"),
        ("0 0 * * FRI-MON", 'cron: day of the week: a range goes upwards, "FRI-MON" does not', "FRI-MON"),
        ("1-1_0 * * * *", 'cron: minute must be 0-59, not "1-1_0"', "1-1_0"),
        ("¹ * * * *", 'cron: minute must be 0-59, not "¹"', "¹"),
        ("* * * *", "cron: expected five fields, got 4", "* * * *"),
        ("", "cron: expected five fields, got 0", ""),
        ("0 0 30 2 * *", 'cron: expected five fields, got 6; for seconds use every = "10s"', "*"),
        ("0 0 1 1 * 2030 x", "cron: expected five fields, got 7", "2030 x"),
        (" @reboot", 'cron: no nickname "@reboot"; there are ' + ", ".join(NICKNAMES), "@reboot"),
    ],
)
def test_a_wrong_expression_is_told_with_its_field_and_the_characters_that_are_wrong(
    text: str, message: str, underlined: str
) -> None:
    error = mistake(text)

    assert (error.code, error.field, error.message) == ("E0211", "cron", message)
    assert error.offset is not None
    assert text[error.offset :][: error.width] == underlined
    assert "minute hour day month weekday" in error.note


@pytest.mark.req("C1")
@pytest.mark.parametrize("number", ["9" * 5000, "1," * 600 + "1"])
def test_an_endless_expression_is_refused_and_not_computed(number: str) -> None:
    assert mistake(f"{number} * * * *").message == f"cron: at most {LONGEST} characters, got {len(number) + 8}"


@pytest.mark.req("C1")
@pytest.mark.parametrize(
    "text", ["0 0 30 2 *", "0 0 31 4 *", "0 0 31 2,4,6,9,11 *", "0 0 30,31 FEB *", "1 1 */100 * MON#4", "0 0 */31 2 5L"]
)
def test_an_expression_that_never_fires_is_refused(text: str) -> None:
    error = mistake(text)

    assert error.code == "E0212"
    assert error.message == f'cron: "{text}" never fires: no day of 100 years is one'
    assert (error.offset, error.width) == (0, len(text))


@pytest.mark.req("E2")
@pytest.mark.parametrize(
    ("text", "after", "slot"),
    [
        ("0 0 29 2 *", "2026-03-01 00:00", "2028-02-29 00:00+00:00"),
        ("0 0 29 2 *", "2096-03-01 00:00", "2104-02-29 00:00+00:00"),  # 2100 is no leap year
        ("0 0 31 * *", "2026-01-31 00:00", "2026-03-31 00:00+00:00"),
        ("0 0 * 2 MON#5", "2026-01-01 00:00", "2044-02-29 00:00+00:00"),  # only in a leap year that fits
        ("0 0 29 2 */7", "2026-01-01 00:00", "2032-02-29 00:00+00:00"),  # a Sunday: star, so both must match
    ],
)
def test_a_rare_expression_fires_however_far_away(text: str, after: str, slot: str) -> None:
    assert first(timed(cron=text), utc(after), 1) == [slot]


@pytest.mark.req("E1", "E2")
@pytest.mark.parametrize(
    ("nickname", "slots"),
    [
        ("@yearly", ["2027-01-01 00:00+00:00", "2028-01-01 00:00+00:00"]),
        ("@annually", ["2027-01-01 00:00+00:00", "2028-01-01 00:00+00:00"]),
        ("@monthly", ["2026-12-01 00:00+00:00", "2027-01-01 00:00+00:00"]),
        ("@weekly", ["2026-11-29 00:00+00:00", "2026-12-06 00:00+00:00"]),  # Sundays
        ("@daily", ["2026-11-26 00:00+00:00", "2026-11-27 00:00+00:00"]),
        ("@midnight", ["2026-11-26 00:00+00:00", "2026-11-27 00:00+00:00"]),
        ("@hourly", ["2026-11-25 13:00+00:00", "2026-11-25 14:00+00:00"]),
        (" @Daily ", ["2026-11-26 00:00+00:00", "2026-11-27 00:00+00:00"]),
    ],
)
def test_nicknames_are_those_of_crontab(nickname: str, slots: list[str]) -> None:
    assert first(timed(cron=nickname), utc("2026-11-25 12:30"), 2) == slots


@pytest.mark.req("E1")
@pytest.mark.parametrize(
    ("text", "slots"),
    [
        ("*/5 * * * *", ["2026-11-25 12:35+00:00", "2026-11-25 12:40+00:00"]),  # health check
        ("0 */6 * * *", ["2026-11-25 18:00+00:00", "2026-11-26 00:00+00:00"]),  # cache cleanup
        ("0 1 * * *", ["2026-11-26 01:00+00:00", "2026-11-27 01:00+00:00"]),  # usage analysis
        ("0 0 * * SUN", ["2026-11-29 00:00+00:00", "2026-12-06 00:00+00:00"]),  # weekly summaries
        ("0 2 * * SAT", ["2026-11-28 02:00+00:00", "2026-12-05 02:00+00:00"]),  # database maintenance
        ("0 2 15 * *", ["2026-12-15 02:00+00:00", "2027-01-15 02:00+00:00"]),  # archive conversations
        ("0 0 1 * *", ["2026-12-01 00:00+00:00", "2027-01-01 00:00+00:00"]),  # quota reset
    ],
)
def test_the_times_of_the_maintenance_jobs_are_met(text: str, slots: list[str]) -> None:
    assert first(timed(cron=text), utc("2026-11-25 12:30"), 2) == slots


@pytest.mark.req("E2")
@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("0 0 13 * FRI", [6, 13, 20, 27]),  # both restricted: either matches; Friday 13 counts once
        ("0 0 1,15 * SUN", [1, 8, 15, 22, 29]),
        ("0 0 10 * SUN", [1, 8, 10, 15, 22, 29]),
        ("0 0 */10 * SUN", [1]),  # one begins with a star: both must match
        ("0 0 1-7 * */7", [1]),  # the first Sunday of the month
        ("0 0 */100,1-7 * MON", [2]),  # the first Monday, by the same quirk
        ("0 0 10 * *", [10]),
        ("0 0 * * 1", [2, 9, 16, 23, 30]),
        ("0 0 1-31 * 1", list(range(1, 31))),  # not a star, though every day: so either
    ],
)
def test_day_of_month_or_day_of_week_matches_unless_one_begins_with_a_star(text: str, days: list[int]) -> None:
    schedule = timed(cron=text)

    found = schedule.latest(utc("2026-10-31 23:59"), utc("2026-11-30 23:59"), 100)

    assert [slot.day for slot in found] == days
