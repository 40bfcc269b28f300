"""`jobsd completion`: what a shell is told when somebody presses Tab."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from jobsd.store.db import Db
from tests.support.command import environment, jobsd
from tests.support.engine import enqueued
from tests.support.site import Site, site

JOBS = """
[jobs.nightly-report]
command = ["true"]

[jobs.nightly-import]
command = ["true"]

[jobs.other]
command = ["true"]
"""
IN_BASH = """
    eval "$(jobsd completion bash)"
    COMP_WORDS=({line} "{last}"); COMP_CWORD={at}
    _jobsd_completion jobsd
    printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def tab(here: Site, *words: str) -> list[str]:
    """What bash offers after these words, the last one begun."""
    script = IN_BASH.format(line=" ".join(words[:-1]), last=words[-1], at=len(words) - 1)
    return await asyncio.to_thread(in_bash, script, **here.environ)


def in_bash(script: str, **env: str) -> list[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, env=environment({"PATH": path, **env}), timeout=60
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


async def test_bash_finishes_the_names_of_jobs_wherever_one_is_meant(here: Site) -> None:
    shown = await tab(here, "jobsd", "job", "show", "nightly-")
    triggered = await tab(here, "jobsd", "trigger", "nightly-r")
    listed = await tab(here, "jobsd", "run", "list", "--job", "o")

    assert shown == ["nightly-import", "nightly-report"]
    assert triggered == ["nightly-report"]
    assert listed == ["other"]


async def test_bash_finishes_the_numbers_of_the_latest_runs(here: Site) -> None:
    ids = await enqueued(here.db, "other", 12)

    one = await tab(here, "jobsd", "run", "show", "1")
    many = await tab(here, "jobsd", "run", "cancel", "3", "1")

    assert one == many == [str(run) for run in reversed(ids) if str(run).startswith("1")]


async def test_zsh_and_fish_are_told_what_each_name_stands_for(here: Site) -> None:
    words = {"COMP_WORDS": "jobsd job show nightly-i", "COMP_CWORD": "3"}

    zsh = await here.jobsd(**words, _JOBSD_COMPLETE="zsh_complete")
    fish = await here.jobsd(**{**words, "COMP_CWORD": "nightly-i"}, _JOBSD_COMPLETE="fish_complete")

    assert zsh.out.splitlines() == ["plain", "nightly-import", "by hand"]
    assert fish.out.splitlines() == ["plain,nightly-import\tby hand"]


def test_commands_and_options_are_finished_without_a_daemon() -> None:
    commands = jobsd(COMP_WORDS="jobsd comp", COMP_CWORD="1", _JOBSD_COMPLETE="bash_complete")
    options = jobsd(COMP_WORDS="jobsd run list --st", COMP_CWORD="3", _JOBSD_COMPLETE="bash_complete")
    states = jobsd(COMP_WORDS="jobsd run list --state ca", COMP_CWORD="4", _JOBSD_COMPLETE="bash_complete")

    assert commands.out.split() == ["plain,completion"]
    assert options.out.split() == ["plain,--state"]
    assert states.out.split() == ["plain,cancelled"]


def test_names_are_not_finished_and_nothing_is_said_while_no_daemon_answers(tmp_path: Path) -> None:
    words = {"COMP_WORDS": "jobsd trigger ni", "COMP_CWORD": "2", "_JOBSD_COMPLETE": "bash_complete"}

    ended = jobsd(cwd=tmp_path, JOBSD_SOCKET=str(tmp_path / "none.sock"), **words)

    assert (ended.code, ended.out.strip(), ended.err) == (0, "", "")


@pytest.mark.parametrize(
    ("shell", "begins"), [("bash", "_jobsd_completion()"), ("zsh", "#compdef jobsd"), ("fish", "function _jobsd")]
)
def test_each_shells_completion_is_written_for_it(shell: str, begins: str) -> None:
    ended = jobsd("completion", shell)

    assert ended.code == 0
    assert ended.out.startswith(begins)
