"""`jobsd job`, against the real API."""

import json
from collections.abc import AsyncIterator

import pytest

from jobsd.domain.outcome import Failed
from jobsd.store.db import Db
from tests.support.site import Site, me, site

JOBS = """
[jobs.nightly-report]
description = "Yesterday's figures"
command = ["true"]
schedule = { cron = "30 2 * * *", timezone = "Europe/Berlin" }
runbook = { duration = "under 5 min", owner = "data@example.org" }

[jobs.cleanup]
command = ["true"]
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def failed_run(here: Site) -> None:
    await here.jobsd("trigger", "cleanup")
    await here.ends(await here.taken(), Failed("exit", "exited with 3"))


async def test_job_list_has_a_line_for_each_job_with_last_run_and_next_slot(here: Site) -> None:
    await failed_run(here)

    ended = await here.jobsd("jobs", "list")

    assert ended.code == 0
    header, *lines = (line.split("\t") for line in ended.out.splitlines())
    found = [dict(zip(header, line, strict=True)) for line in lines]
    assert [job["name"] for job in found] == ["cleanup", "nightly-report"]
    assert found[0]["last_state"] == "failed"
    assert found[0]["schedule"] == "by hand"
    assert found[1]["next_at"].endswith(":30:00Z")


async def test_job_show_tells_schedule_and_runbook_in_words(here: Site) -> None:
    ended = await here.jobsd("job", "show", "nightly-report", "-o", "table")

    assert ended.code == 0
    assert "at 02:30 every day, Europe/Berlin" in ended.out
    assert "owner: data@example.org" in ended.out


async def test_job_show_as_json_is_what_the_api_answers(here: Site) -> None:
    ended = await here.jobsd("job", "show", "cleanup", "-o", "json")

    assert json.loads(ended.out)["definition"]["command"] == ["true"]


@pytest.mark.parametrize("args", [["job", "show"], ["job", "why"], ["job", "next"], ["job", "disable"], ["trigger"]])
async def test_a_job_that_is_not_there_is_e0501_with_the_nearest_and_exit_5(here: Site, args: list[str]) -> None:
    ended = await here.jobsd(*args, "nightly-reprot")

    assert ended.code == 5
    assert ended.out == ""
    assert ended.err.startswith('error[E0501]: no job named "nightly-reprot"')
    assert 'did you mean "nightly-report"?' in ended.err


async def test_a_name_with_a_slash_asks_for_that_job_and_no_other_address(here: Site) -> None:
    ended = await here.jobsd("job", "show", "cleanup/why")

    assert ended.code == 5
    assert 'no job named "cleanup/why"' in ended.err


async def test_a_job_is_switched_off_and_on_with_the_user_and_the_reason(here: Site) -> None:
    off = await here.jobsd("job", "disable", "cleanup", "--reason", "moving house", "-o", "table")
    why = await here.jobsd("job", "why", "cleanup", "-o", "table")
    on = await here.jobsd("job", "enable", "cleanup")

    assert off.out == "cleanup is disabled\n"
    assert f"disabled by {me()}" in why.out
    assert "moving house" in why.out
    assert on.out == "name\tenabled\tdisabled_until\ncleanup\ttrue\t\n"


async def test_next_tells_the_slots_in_plain_english(here: Site) -> None:
    ended = await here.jobsd("next", "nightly-report", "-n", "3", "-o", "table")

    first, _, header, *slots = ended.out.splitlines()
    assert ended.code == 0
    assert first == "nightly-report: at 02:30 every day, Europe/Berlin"
    assert header.split() == ["IN", "SLOT"]
    assert len(slots) == 3
    assert all(line.startswith("in ") and "02:30:00 CE" in line for line in slots)


async def test_next_of_a_disabled_job_says_that_none_will_run(here: Site) -> None:
    await here.jobsd("job", "disable", "nightly-report")

    ended = await here.jobsd("next", "nightly-report", "-o", "table")

    assert "but it is disabled: none of these will run" in ended.out


async def test_next_reads_the_configuration_here_when_no_daemon_is_there(here: Site) -> None:
    ended = await here.jobsd("next", "nightly-report", "-n", "1", JOBSD_SOCKET=str(here.folder / "gone.sock"))

    assert ended.code == 0
    assert ended.err == "no daemon answers; as jobsd.toml has it\n"
    assert len(ended.out.splitlines()) == 2


async def test_next_of_a_job_that_is_not_in_the_configuration_either_is_e0501(here: Site) -> None:
    ended = await here.jobsd("next", "nightly-reprot", JOBSD_SOCKET=str(here.folder / "gone.sock"))

    assert ended.code == 5
    assert 'did you mean "nightly-report"?' in ended.err
