"""`jobsd run watch`: one run with its bar, and a list that moves."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobsd.domain.outcome import Completed, Failed
from jobsd.domain.run import ClaimedRun
from jobsd.store import reports
from jobsd.store.db import Db
from tests.support.command import COMMAND, environment
from tests.support.engine import enqueued, request
from tests.support.site import Site, site

JOBS = """
[jobs.import]
command = ["true"]
lock_key = "{run_id}"

[jobs.other]
command = ["true"]
lock_key = "{run_id}"
"""
STEPS = [("load", 1.0), ("condense", 8.0)]


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def begun(here: Site, job: str = "import") -> ClaimedRun:
    await enqueued(here.db, job)
    return (await here.here.keeper.claim(request(here.here, job))).runs[0]


class Watching:
    """The command in a pipe, read line by line while it runs."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def line(self) -> str:
        assert self.process.stdout
        async with asyncio.timeout(30):
            return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def stopped(self) -> int:
        self.process.send_signal(signal.SIGINT)
        async with asyncio.timeout(30):
            await self.process.communicate()
        return self.process.returncode or 0


async def watching(here: Site, *args: str, socket: Path | None = None) -> Watching:
    env = environment({"JOBSD_SOCKET": str(socket or here.addresses.socket)})
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*COMMAND, "run", "watch", *args, stdout=pipe, stderr=pipe, env=env)
    return Watching(process)


@pytest.mark.req("D2")
async def test_a_run_shows_its_step_its_progress_and_at_the_end_its_result(here: Site) -> None:
    run = await begun(here)

    async with here.terminal("run", "watch", str(run.id)) as screen:
        await screen.shows("running")
        await reports.progress(here.db, run.id, run.fence, 0.45, "page 12", step="condense", steps=STEPS)
        await screen.shows("condense (2 of 2)  page 12")
        await screen.shows("45%")
        await here.ends(run, Completed({"pages": 27}))
        code = await screen.ended()

    assert code == 0
    assert '{"pages": 27}' in screen.shown


async def test_a_run_that_fails_ends_with_exit_9_and_its_error(here: Site) -> None:
    run = await begun(here)
    await here.ends(run, Failed("exit", "exited with 3"))

    ended = await here.jobsd("run", "watch", str(run.id))

    assert ended.code == 9
    assert "error[E0505]" in ended.err
    assert "exited with 3" in ended.err


@pytest.mark.req("F6")
async def test_a_list_shows_a_line_for_each_move_that_matches(here: Site) -> None:
    seen = await watching(here, "--job", "import", "-o", "jsonl")
    await enqueued(here.db, "other")
    first = await moved(here, seen)
    await here.here.keeper.claim(request(here.here, "import"))
    lines = [json.loads(await seen.line())]
    while lines[-1]["state"] != "running":
        lines.append(json.loads(await seen.line()))
    code = await seen.stopped()

    assert (first["event"], first["job"], first["state"]) == ("run", "import", "queued")
    assert {line["job"] for line in lines} == {"import"}
    assert code == 130


async def moved(here: Site, seen: Watching) -> dict[str, object]:
    """Make runs until the command, which has to start first, shows one."""
    line = asyncio.create_task(seen.line())
    while not line.done():
        await enqueued(here.db, "import")
        await asyncio.wait({line}, timeout=0.2)
    found: dict[str, object] = json.loads(line.result())
    return found


async def test_a_list_that_is_watched_in_a_pipe_is_tab_separated(here: Site) -> None:
    seen = await watching(here)
    line = asyncio.create_task(seen.line())
    while not line.done():
        await enqueued(here.db, "import")
        await asyncio.wait({line}, timeout=0.2)
    await seen.stopped()

    at, event, run, job, state, more = line.result().split("\t")
    assert (event, job, state, more) == ("run", "import", "queued", "")
    assert at.endswith("+00:00")
    assert int(run) >= 1


async def test_a_daemon_that_restarts_is_come_back_to_and_nothing_is_missed(here: Site) -> None:
    other = here.folder / "other.sock"
    async with here.listening("other.sock"):
        seen = await watching(here, "-o", "jsonl", socket=other)
        await moved(here, seen)
    (meanwhile,) = await enqueued(here.db, "other")
    async with here.listening("other.sock"):
        while json.loads(await seen.line())["id"] != meanwhile:
            pass
        code = await seen.stopped()

    assert code == 130


@pytest.mark.parametrize(
    ("args", "expected"),
    [(["42", "--job", "import"], "not both"), (["--timeout", "5s"], "--timeout: expected RUN with it")],
)
async def test_options_that_do_not_go_together_are_refused(here: Site, args: list[str], expected: str) -> None:
    ended = await here.jobsd("run", "watch", *args)

    assert ended.code == 2
    assert expected in ended.err


async def test_a_run_that_is_not_there_cannot_be_watched(here: Site) -> None:
    ended = await here.jobsd("run", "watch", "4711")

    assert ended.code == 5
    assert "error[E0503]" in ended.err
