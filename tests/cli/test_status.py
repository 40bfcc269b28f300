"""`jobsd status`, and how tables look on a terminal."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from jobsd.domain.outcome import Failed
from jobsd.store.db import Db
from tests.support.command import ESCAPES, LIMIT_S, environment
from tests.support.site import Site, site

JOBS = f"""
[jobs.nightly-report]
description = "{"Yesterday's figures, for whoever asks. " * 8}"
command = ["true"]
schedule = {{ cron = "30 2 * * *", timezone = "Europe/Berlin" }}
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def shown(here: Site, *args: str, columns: int = 100, **env: str) -> str:
    async with here.terminal(*args, columns=columns, **env) as screen:
        assert await screen.ended() == 0
    return screen.shown


async def test_status_tells_node_lock_session_loops_queue_and_next_slots(here: Site) -> None:
    await here.jobsd("trigger", "nightly-report", "--at", "1h")

    ended = await here.jobsd("status", "-o", "table")

    assert ended.code == 0
    assert ended.out.startswith("jobsd 0.1.0 on one (pid ")
    assert "1 job, 1 scheduled, from " in ended.out
    for part in ("lock session", "loops", "queue", "0 due, 1 for later, 0 running"):
        assert part in ended.out
    assert "nightly-report  at 02:30 every day, Europe/Berlin" in ended.out


async def test_status_for_programs_has_every_component(here: Site) -> None:
    whole = json.loads((await here.jobsd("status", "-o", "json")).out)
    lines = (await here.jobsd("status")).out.splitlines()

    assert whole["node"] == "one"
    assert {"lock_session", "loops", "queue", "database"} <= whole["components"].keys()
    assert lines[0] == "verdict\tcomponent\ttext"
    assert len(lines) == 1 + len(whole["components"])


async def test_status_ends_with_1_when_no_work_gets_done(here: Site) -> None:
    here.vitals = replace(here.vitals, lock_session_up=False)

    ended = await here.jobsd("status", "-o", "table")

    assert ended.code == 1
    assert ": ◆ critical\n" in ended.out
    assert "  -> look for the reason in the log; without its lock session" in ended.out


async def test_a_table_on_a_terminal_is_cut_to_its_width_and_keeps_what_matters(here: Site) -> None:
    text = ESCAPES.sub("", await shown(here, "job", "list", columns=70))

    lines = text.replace("\r\n", "\n").splitlines()
    assert max(map(len, lines)) == 70
    assert lines[0].split() == ["JOB", "IS", "LAST", "ENDED", "NEXT", "SCHEDULE", "PURPOSE"]
    assert lines[1].startswith("nightly-report  enabled  ")
    assert lines[1].endswith("…")


async def test_a_pipe_gets_everything_and_iso_times(here: Site) -> None:
    piped = await here.jobsd("job", "list")

    assert "Yesterday's figures, for whoever asks. " * 7 in piped.out
    assert ":30:00Z\t" in piped.out


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
async def test_a_terminal_that_wants_no_colour_gets_none_and_states_keep_their_shape(
    here: Site, env: dict[str, str]
) -> None:
    await here.jobsd("trigger", "nightly-report")
    await here.ends(await here.taken(), Failed("exit", "exited with 3"))

    plain = await shown(here, "run", "list", **env)
    coloured = await shown(here, "run", "list")

    assert "\x1b[31m" not in plain
    assert "◆ failed" in plain
    assert "\x1b[31m◆ failed" in coloured


async def test_an_output_that_knows_no_shapes_gets_ascii(here: Site) -> None:
    await here.jobsd("trigger", "nightly-report")

    ended = await here.jobsd("run", "list", "-o", "table", PYTHONIOENCODING="ascii")

    assert ended.code == 0
    assert "o queued" in ended.out


async def test_what_a_job_is_called_is_never_taken_for_markup(here: Site) -> None:
    await here.db.execute("INSERT INTO jobsd.run (job, actor) VALUES ('[red]x[/]:smile:', 'test')")

    assert "[red]x[/]:smile:" in await shown(here, "run", "list")


async def test_a_reader_that_goes_away_is_no_error(here: Site) -> None:
    await here.db.execute("INSERT INTO jobsd.run (job, actor) SELECT 'many', 'test' FROM generate_series(1, 5000)")
    shell = f"{sys.executable} -m jobsd run list --limit 5000 --socket {here.addresses.socket} | head -n 1"

    ended = subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; {shell}"],
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    out, err = await asyncio.to_thread(ended.communicate, timeout=LIMIT_S)

    assert out.startswith("id\tjob\tstate")
    assert err == ""
