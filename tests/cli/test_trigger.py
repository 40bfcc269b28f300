"""`jobsd trigger`, against the real API: what it asks for, how it waits, how it ends."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator

import pytest

from jobsd.domain.outcome import Completed, Failed
from jobsd.store.db import Db
from tests.support.command import COMMAND, Ended, environment
from tests.support.site import Site, me, site

JOBS = """
[jobs.report]
command = ["true"]
params = { region = "eu", days = 1 }
lock_key = "{run_id}"
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


def background(here: Site, *args: str) -> "asyncio.Task[Ended]":
    return asyncio.create_task(here.jobsd("trigger", "report", *args))


@pytest.mark.req("A6")
async def test_a_run_is_asked_for_with_parameters_reason_and_the_user_as_actor(here: Site) -> None:
    ended = await here.jobsd(
        "trigger", "report", "-p", "days=7", "-p", "region=us", "--reason", "late data", "-o", "json"
    )

    run = json.loads(ended.out)
    assert ended.code == 0
    assert run["params"] == {"region": "us", "days": 7}
    assert (run["state"], run["actor"], run["reason"]) == ("queued", me(), "late data")


@pytest.mark.req("A6")
async def test_a_person_is_told_the_run_and_how_to_follow_it(here: Site) -> None:
    ended = await here.jobsd("trigger", "report", "-o", "table")

    run = re.fullmatch(r"run (\d+) of report . queued\n", ended.out)
    assert run
    assert ended.err == f"follow it: jobsd run logs {run[1]} --follow\n"


@pytest.mark.req("A8")
async def test_a_dry_run_is_asked_for_as_such(here: Site) -> None:
    ended = await here.jobsd("trigger", "report", "--dry-run", "-o", "json")

    assert json.loads(ended.out)["dry_run"] is True


async def test_the_same_key_makes_one_run(here: Site) -> None:
    first = await here.jobsd("trigger", "report", "--key", "monday", "-o", "json")
    second = await here.jobsd("trigger", "report", "--key", "monday", "-o", "table")

    run = json.loads(first.out)["id"]
    assert second.code == 0
    assert second.out.startswith(f"run {run} of report")
    assert second.out.endswith("(made before, for the same key)\n")


async def test_the_same_key_for_another_request_is_e0507_and_exit_2(here: Site) -> None:
    await here.jobsd("trigger", "report", "--key", "monday")

    ended = await here.jobsd("trigger", "report", "--key", "monday", "-p", "days=2")

    assert ended.code == 2
    assert ended.err.startswith('error[E0507]: the idempotency key "monday" belongs to run 1')


async def test_a_run_can_be_asked_for_later(here: Site) -> None:
    ended = await here.jobsd("trigger", "report", "--at", "2030-01-01T00:00:00+01:00", "-o", "json")

    assert json.loads(ended.out)["due_at"] == "2029-12-31T23:00:00Z"


async def test_parameters_come_from_a_file(here: Site) -> None:
    (here.folder / "p.json").write_text('{"days": 9}')

    ended = await here.jobsd("trigger", "report", "--params", "p.json", "-o", "json")

    assert json.loads(ended.out)["params"]["days"] == 9


async def test_wait_follows_the_run_and_prints_its_result(here: Site) -> None:
    waiting = background(here, "--wait", "-o", "table")
    run = await here.taken()
    await here.says(run, "reading")
    await here.gets_to(run, 0.5, "half of it")
    await here.ends(run, Completed({"rows": 3}))

    ended = await waiting

    assert ended.code == 0
    assert re.fullmatch(rf'run {run.id} of report ● completed after [\d.]+ m?s\n{{"rows": 3}}\n', ended.out)
    assert re.search(r"^\d\d:\d\d:\d\d  reading$", ended.err, re.MULTILINE)
    assert " 50 %  half of it\n" in ended.err


async def test_wait_in_a_pipe_prints_the_run_as_it_ended(here: Site) -> None:
    waiting = background(here, "--wait", "-o", "json")
    await here.ends(await here.taken(), Completed([1, 2]))

    run = json.loads((await waiting).out)

    assert (run["state"], run["result"]) == ("completed", [1, 2])


@pytest.mark.parametrize("output", ["table", "json"])
async def test_wait_ends_with_9_and_the_error_word_for_word_when_the_run_fails(here: Site, output: str) -> None:
    waiting = background(here, "--wait", "-o", output)
    run = await here.taken()
    await here.ends(run, Failed("exit", "exited with 3: disk full"))

    ended = await waiting

    assert ended.code == 9
    told = rf"error\[E0505\]: run {run.id} of report failed after [\d.]+ m?s: exited with 3: disk full"
    assert re.search(told, ended.err)
    assert f"jobsd run show {run.id}" in ended.err
    assert (json.loads(ended.out)["state"] == "failed") if output == "json" else (ended.out == "")


async def test_wait_ends_with_9_when_the_run_is_cancelled(here: Site) -> None:
    waiting = background(here, "--wait")
    async with asyncio.timeout(30):
        await here.asked.acquire()
    await here.db.execute("UPDATE jobsd.run SET state = 'cancelled', finished_at = now(), ready = NULL")

    ended = await waiting

    assert ended.code == 9
    assert "error[E0505]: run 1 of report was cancelled" in ended.err


async def test_wait_ends_with_124_when_its_time_is_over_and_the_run_goes_on(here: Site) -> None:
    ended = await here.jobsd("trigger", "report", "--wait", "--timeout", "200ms")

    assert ended.code == 124
    assert "error[E0506]: run 1 of report is still queued" in ended.err
    assert "it goes on: jobsd run logs 1 --follow" in ended.err
    assert await here.db.fetchval("SELECT state FROM jobsd.run") == "queued"


async def test_all_that_a_quick_run_said_is_shown_before_the_wait_ends(here: Site) -> None:
    waiting = background(here, "--wait")
    run = await here.taken()
    await here.db.execute(
        "INSERT INTO jobsd.message (run, fence, level, text) SELECT $1, $2, 'info', 'm' || n"
        " FROM generate_series(1, 450) AS n",
        run.id,
        run.fence,
    )
    await here.ends(run, Completed(None))

    said = re.findall(r"  (m\d+)$", (await waiting).err, re.MULTILINE)

    assert said == [f"m{n}" for n in range(1, 451)]


async def test_ctrl_c_ends_the_wait_with_130_and_leaves_the_run_alone(here: Site) -> None:
    async with here.terminal("trigger", "report", "--wait") as screen:
        run = await here.taken()
        await here.says(run, "reading")
        await screen.shows("reading")
        screen.press(b"\x03")
        code = await screen.ended()

    assert code == 130
    assert f"run {run.id} goes on: jobsd run logs {run.id} --follow" in screen.shown
    assert "Traceback" not in screen.shown
    assert await here.db.fetchval("SELECT state FROM jobsd.run") == "running"


async def test_wait_on_a_terminal_draws_a_bar_that_goes_with_the_run(here: Site) -> None:
    async with here.terminal("trigger", "report", "--wait") as screen:
        run = await here.taken()
        await here.gets_to(run, 0.5, "half of it")
        await screen.shows("half of it")
        await screen.shows(" 50%")
        await here.ends(run, Completed("done"))
        code = await screen.ended()

    assert code == 0
    assert "● completed" in screen.shown
    assert '"done"' in screen.shown


async def test_wait_on_a_dumb_terminal_is_lines_without_escapes(here: Site) -> None:
    async with here.terminal("trigger", "report", "--wait", TERM="dumb") as screen:
        run = await here.taken()
        await here.gets_to(run, 0.5, "half of it")
        await screen.shows(" 50 %  half of it")
        await here.ends(run, Completed("done"))
        await screen.ended()

    assert "\x1b" not in screen.shown


async def test_an_interrupt_in_a_pipe_is_130_without_a_traceback(here: Site) -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "trigger", "report", "--wait", env=environment(here.environ), stderr=asyncio.subprocess.PIPE
    )
    await here.taken()
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()

    assert process.returncode == 130
    assert b"Traceback" not in err


@pytest.mark.req("F1", "B7")
async def test_priority_and_tags_go_with_the_run(here: Site) -> None:
    ended = await here.jobsd(
        *("trigger", "report", "--priority", "high", "--tag", "language:fr", "--tag", "class:7:b", "-o", "json")
    )

    run = json.loads(ended.out)
    assert (run["priority"], run["tags"]) == (3, {"language": "fr", "class": "7:b"})


@pytest.mark.req("F1")
async def test_many_runs_are_asked_for_in_one_call_from_a_file_or_a_pipe(here: Site) -> None:
    lines = "".join(json.dumps({"params": {"days": n}}) + "\n" for n in range(300))
    (here.folder / "runs.jsonl").write_text(lines)

    piped = await here.jobsd("trigger", "report", "--many", "-", "--key", "k", "-o", "json", stdin=lines)
    again = await here.jobsd("trigger", "report", "--many", "runs.jsonl", "--key", "k", "-o", "table")

    made = json.loads(piped.out)
    assert (made["created"], made["existing"], len(made["ids"])) == (300, 0, 300)
    assert again.out == "0 runs queued, 300 made before, for the same keys\n"


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (["--tag", "fr"], "E0101", '--tag: expected NAME:VALUE, like language:fr, got "fr"'),
        (["--many", "gone.jsonl"], "E0101", "gone.jsonl: no such file or directory"),
        (["--many", "-"], "E0101", "--many: expected one JSON object a line, got line 2 of - with list"),
        (["--many", "-", "-p", "a=1"], "E0101", "--many: expected only --key and --reason beside it"),
        (["-p", "days"], "E0102", 'expected key=value, got "days"'),
        (["--params", "gone.json"], "E0101", "gone.json: no such file or directory"),
        (["--at", "tomorrow"], "E0101", 'got "tomorrow"'),
        (["--timeout", "soon", "--wait"], "E0101", '--timeout: expected a number and a unit, like "90s"'),
        (["--what"], "E0101", "no such option"),
    ],
)
async def test_what_does_not_fit_is_told_with_exit_2_before_anything_is_asked(
    here: Site, args: list[str], code: str, words: str
) -> None:
    ended = await here.jobsd("trigger", "report", *args, stdin="{}\n[]\n")

    assert ended.code == 2
    assert ended.err.startswith(f"error[{code}]: ")
    assert words in ended.err
    assert await here.db.fetchval("SELECT count(*) FROM jobsd.run") == 0
