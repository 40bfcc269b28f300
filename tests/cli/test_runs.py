"""`jobsd run`, against the real API."""

import json
from collections.abc import AsyncIterator

import pytest

from jobsd.domain.outcome import Completed, Failed, Usage
from jobsd.domain.run import ClaimedRun
from jobsd.store.db import Db
from tests.support.site import Site, me, site

JOBS = """
[jobs.import]
command = ["true"]
lock_key = "{run_id}"

[jobs.flaky]
command = ["true"]
retry = { attempts = 1, base = "1s", backoff = "constant" }
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def begun(here: Site, job: str = "import") -> ClaimedRun:
    await here.jobsd("trigger", job)
    return await here.taken()


async def test_run_list_is_filtered_by_state_and_job_and_has_the_newest_first(here: Site) -> None:
    first, second, third = await begun(here), await begun(here), await begun(here, "flaky")
    for run in (first, second):
        await here.ends(run, Failed("exit", "exited with 3\nand more"))

    failed = await here.jobsd("run", "list", "--state", "failed", "--since", "24h")
    flaky = await here.jobsd("runs", "list", "--job", "flaky", "-o", "jsonl")

    lines = [line.split("\t") for line in failed.out.splitlines()]
    assert [line[0] for line in lines] == ["id", str(second.id), str(first.id)]
    assert lines[1][-1] == "exited with 3\\nand more"
    assert [json.loads(line)["id"] for line in flaky.out.splitlines()] == [third.id]


async def test_run_list_fetches_as_many_pages_as_its_limit_takes(here: Site) -> None:
    await here.db.execute("INSERT INTO jobsd.run (job, actor) SELECT 'import', 'test' FROM generate_series(1, 450)")

    ended = await here.jobsd("run", "list", "--limit", "405", "-o", "json")

    assert [run["id"] for run in json.loads(ended.out)] == list(range(450, 45, -1))


async def test_a_list_of_nothing_tells_a_person_how_to_make_a_run(here: Site) -> None:
    ended = await here.jobsd("run", "list", "-o", "table")

    assert (ended.code, ended.out) == (0, "")
    assert "jobsd trigger JOB" in ended.err


async def test_run_show_has_the_error_word_for_word_and_every_attempt(here: Site) -> None:
    run = await begun(here)
    usage = Usage("the tail\n", 3, 5 << 20, 0.25)
    await here.ends(run, Failed("exit", "exited with 3\nand a second line", usage))

    shown = await here.jobsd("run", "show", str(run.id), "-o", "table")
    whole = json.loads((await here.jobsd("run", "show", str(run.id), "-o", "json")).out)

    assert shown.code == 0
    assert f"error         exited with 3\n{' ' * 14}and a second line\n" in shown.out
    assert "5 MiB" in shown.out
    assert f"asked for by  {me()}" in shown.out
    assert whole["attempt_list"][0]["output"] == "the tail\n"
    assert whole["error"] == "exited with 3\nand a second line"


async def test_run_logs_has_messages_and_the_end_of_the_output(here: Site) -> None:
    run = await begun(here)
    await here.says(run, "12 rows were left out", "warning")
    await here.ends(run, Completed(None, Usage("line one\nline two")))

    piped = await here.jobsd("run", "logs", str(run.id))
    person = await here.jobsd("run", "logs", str(run.id), "-o", "table")
    whole = json.loads((await here.jobsd("run", "logs", str(run.id), "-o", "json")).out)

    at, level, text = piped.out.splitlines()[0].split("\t")
    assert at.endswith("Z")
    assert (level, text) == ("warning", "12 rows were left out")
    assert piped.out.splitlines()[1:] == ["line one", "line two"]
    assert person.out.splitlines()[0].endswith("  warning: 12 rows were left out")
    assert whole["outputs"] == [{"number": 1, "output": "line one\nline two"}]
    assert [message["text"] for message in whole["messages"]] == ["12 rows were left out"]


async def test_run_logs_follow_shows_messages_as_they_come_and_ends_with_the_run(here: Site) -> None:
    run = await begun(here)
    await here.says(run, "before")

    async with here.terminal("run", "logs", str(run.id), "--follow") as screen:
        await screen.shows("before")
        await here.says(run, "while it runs")
        await screen.shows("while it runs")
        await here.ends(run, Completed(None, Usage("the tail")))
        code = await screen.ended()

    assert code == 0
    assert "the tail" in screen.shown


async def test_many_messages_are_all_shown(here: Site) -> None:
    run = await begun(here)
    await here.db.execute(
        "INSERT INTO jobsd.message (run, fence, level, text) SELECT $1, $2, 'info', 'm' || n"
        " FROM generate_series(1, 450) AS n",
        run.id,
        run.fence,
    )

    ended = await here.jobsd("run", "logs", str(run.id))

    assert [line.split("\t")[2] for line in ended.out.splitlines()] == [f"m{n}" for n in range(1, 451)]


async def test_output_cannot_steer_the_terminal_but_is_whole_in_a_pipe(here: Site) -> None:
    run = await begun(here)
    await here.ends(run, Completed(None, Usage("\x1b[2Jgone")))

    piped = await here.jobsd("run", "logs", str(run.id))
    async with here.terminal("run", "logs", str(run.id)) as screen:
        await screen.ended()

    assert piped.out == "\x1b[2Jgone\n"
    assert "\\x1b[2Jgone" in screen.shown
    assert "\x1b[2J" not in screen.shown


@pytest.mark.parametrize("command", ["show", "logs"])
async def test_a_run_that_is_not_there_is_e0503_and_exit_5(here: Site, command: str) -> None:
    ended = await here.jobsd("run", command, "4711")

    assert ended.code == 5
    assert ended.err.startswith("error[E0503]: there is no run 4711")


async def test_what_the_daemon_finds_wrong_with_an_option_is_told_in_its_words_with_exit_2(here: Site) -> None:
    ended = await here.jobsd("run", "list", "--since", "yesterday")

    assert ended.code == 2
    assert ended.err.startswith("error[E0507]: since: ")


@pytest.mark.parametrize("args", [["list", "--state", "gone"], ["list", "--limit", "0"], ["show", "x"], ["show"]])
async def test_what_the_command_line_finds_wrong_is_e0101_with_exit_2(here: Site, args: list[str]) -> None:
    ended = await here.jobsd("run", *args)

    assert ended.code == 2
    assert ended.err.startswith("error[E0101]: ")
