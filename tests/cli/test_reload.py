"""`jobsd reload`, and a trigger from beginning to end, against a real daemon."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from tests.support.command import Ended, jobsd
from tests.support.daemon import Daemon

JOBS = """
[jobs.report]
command = ["true"]
timeout = "1m"

[jobs.old]
command = ["true"]

[jobs.broken]
command = ["sh", "-c", "echo no disk; exit 3"]
"""


@pytest.fixture
async def daemon(database_url: str) -> AsyncIterator[Daemon]:
    started = Daemon(database_url, JOBS)
    await started.start()
    yield started
    await started.close()


async def on(daemon: Daemon, *args: str) -> Ended:
    return await asyncio.to_thread(jobsd, *args, "--socket", str(daemon.socket), cwd=daemon.folder)


async def test_reload_prints_the_plan_and_what_changed(daemon: Daemon) -> None:
    daemon.write(JOBS.replace("1m", "2m").replace("[jobs.old]", "[jobs.new]"))

    ended = await on(daemon, "reload", "--reason", "longer", "-o", "table")

    assert ended.code == 0, ended.err
    first, _, *lines = ended.out.splitlines()
    assert first == "+1 added ~1 changed -1 removed"
    assert [line.split()[:2] for line in lines] == [["added", "new"], ["changed", "report"], ["removed", "old"]]
    assert "timeout" in lines[1]


async def test_reload_of_a_wrong_configuration_tells_every_mistake_and_changes_nothing(daemon: Daemon) -> None:
    daemon.write(JOBS.replace("timeout", "timeuot").replace('["true"]', "7"))

    ended = await on(daemon, "reload")
    jobs = await on(daemon, "job", "list")

    assert ended.code == 3
    assert ended.out == ""
    assert 'error[E0204]: unknown key "timeuot"' in ended.err
    assert ended.err.count("error[E02") == 3
    assert [line.split("\t")[0] for line in jobs.out.splitlines()] == ["name", "broken", "old", "report"]


@pytest.mark.req("A6")
async def test_trigger_wait_goes_with_a_real_run_to_its_end(daemon: Daemon) -> None:
    good = await on(daemon, "trigger", "report", "--wait", "-o", "json")
    bad = await on(daemon, "trigger", "broken", "--wait")
    logs = await on(daemon, "run", "logs", "2")

    assert (good.code, json.loads(good.out)["state"]) == (0, "completed")
    assert bad.code == 9
    assert "error[E0505]: run 2 of broken failed" in bad.err
    assert logs.out == "no disk\n"
