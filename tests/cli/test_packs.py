"""`jobsd view` and `jobsd act`, against the real API and the shipped analytics pack."""

import json
from collections.abc import AsyncIterator

import pytest

from jobsd.domain.errors import Exit
from jobsd.store.db import Db
from tests.support.site import Site, me, site

SIGNALS = """
    INSERT INTO analytics.signal (rule, course_id, period, severity, evidence)
    SELECT 'low_quiz_pass_rate', 'AAA/' || n, 'whole', CASE n % 2 WHEN 0 THEN 'critical' ELSE 'warning' END, '{"of": 5}'
      FROM generate_series(1, 250) AS n
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    await db.execute(SIGNALS)
    async with site(db, "") as started:
        yield started


async def test_views_and_actions_are_listed(here: Site) -> None:
    views, actions = await here.jobsd("view"), await here.jobsd("act")

    assert "analytics.signals\tSignals\t" in views.out
    assert "analytics.archive_signal\tArchive\t" in actions.out


async def test_a_view_is_shown_whole_over_several_pages(here: Site) -> None:
    ended = await here.jobsd(
        "view", "analytics.signals", "--filter", "severity=critical", "--limit", "120", "-o", "jsonl"
    )

    rows = [json.loads(line) for line in ended.out.splitlines()]
    assert (ended.code, len(rows), {row["severity"] for row in rows}) == (0, 120, {"critical"})
    assert rows[0]["id"] > rows[-1]["id"]


async def test_a_table_has_the_columns_that_the_view_declares(here: Site) -> None:
    ended = await here.jobsd("view", "analytics.signals", "--filter", "course=AAA/7", "-o", "table")

    heading, row = ended.out.splitlines()
    assert heading.split()[:6] == ["ID", "RULE", "COURSE", "PERIOD", "SEVERITY", "STATE"]
    assert row.split()[1:6] == ["low_quiz_pass_rate", "AAA/7", "whole", "warning", "open"]


@pytest.mark.req("A7")
async def test_a_signal_is_put_away_with_a_reason(here: Site, db: Db) -> None:
    args = ("act", "analytics.archive_signal", "--param", "signal=7", "--reason", "course has ended")

    ended = await here.jobsd(*args, "-o", "table")
    again = await here.jobsd(*args)

    entry = await db.fetchrow("SELECT act, actor, reason FROM jobsd.audit_log")
    assert (ended.code, ended.out.splitlines()[0]) == (0, "analytics.archive_signal is done")
    assert entry is not None
    assert tuple(entry) == ("analytics.archive_signal", me(), "course has ended")
    assert (again.code, again.out) == (Exit.CONFLICT, "")
    assert again.err == "error[E0522]: analytics.archive_signal: signal 7 is archived already\n"


@pytest.mark.parametrize(
    ("args", "code", "told"),
    [
        (("view", "signals"), Exit.USAGE, 'expected PACK.NAME, like "analytics.signals", got "signals"'),
        (("view", "analytics.signal"), Exit.NOT_FOUND, 'did you mean "signals"?'),
        (("view", "analytics.signals", "--filter", "open"), Exit.USAGE, 'expected name=value, got "open"'),
        (("view", "analytics.signals", "--filter", "stat=open"), Exit.USAGE, 'did you mean "state"?'),
        (("act", "analytics.archive_signal"), Exit.USAGE, "signal: field required"),
    ],
)
async def test_what_is_mistyped_is_told(here: Site, args: tuple[str, ...], code: int, told: str) -> None:
    ended = await here.jobsd(*args)

    assert (ended.code, told in ended.err) == (code, True), ended.err
