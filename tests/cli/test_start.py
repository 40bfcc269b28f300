"""The command starts fast because it imports little, and ends as a shell expects."""

import re
import subprocess
import sys

import pytest

from tests.support.command import environment, jobsd

HEAVY = ("pydantic", "rich", "asyncpg", "aiohttp", "orjson", "structlog", "apprise", "prometheus_client", "uvloop")
COMMANDS = ("status", "job", "run", "trigger", "reload", "db", "docs", "next")
BELOW = ("list", "show", "next", "why", "enable", "disable")


def imported(*args: str) -> set[str]:
    """The top-level modules that `jobsd ARGS` imports."""
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "jobsd", *args],
        capture_output=True,
        text=True,
        env=environment({}),
        check=True,
    )
    return {name.split(".")[0] for name in re.findall(r"\|\s+([\w.]+)$", process.stderr, re.MULTILINE)}


@pytest.mark.parametrize(
    "args", [["--help"], *([name, "--help"] for name in COMMANDS), *(["job", name, "--help"] for name in BELOW)]
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    modules = imported(*args)

    assert "click" in modules  # the list was read
    assert not modules & {*HEAVY, "http", "ssl", "asyncio"}


@pytest.mark.parametrize(
    "args",
    [
        *(["job", name] for name in BELOW),
        *(["run", name] for name in ("list", "show", "logs")),
        *(["db", name] for name in ("migrate", "status", "sql")),
        *([name] for name in ("next", "trigger", "status", "reload", "docs")),
    ],
)
def test_every_command_has_help_with_an_example(args: list[str]) -> None:
    ended = jobsd(*args, "--help")

    assert ended.code == 0
    assert re.search(
        rf"Examples?:\n\s+(\w+=\S+ )?jobsd {'(job )?next' if 'next' in args else ' '.join(args)}", ended.out
    )


@pytest.mark.parametrize("noun", ["job", "run"])
def test_nouns_are_taken_in_the_plural_too(noun: str) -> None:
    assert jobsd(f"{noun}s", "--help").out.splitlines()[1:] == jobsd(noun, "--help").out.splitlines()[1:]
