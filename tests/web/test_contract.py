"""Schemathesis against a running daemon: every address with what fits its description and what does not."""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.support.daemon import Daemon

FOLDER = Path(__file__).parent / "contract"
LIMIT_S = 240.0  # only ends a test that hangs
JOBS = """
[jobs.nightly]
command = ["true"]
schedule = { cron = "30 2 * * *" }
params = { region = "eu" }

[jobs.broken]
command = ["false"]

[jobs.outside]
external = true
lock_key = "{run_id}"
"""


async def schemathesis(url: str, folder: Path, *more: str) -> tuple[int, str]:
    """Its exit status, and what it says. Streams have no end, so it leaves them out; tests of their own follow them."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "ignore", "-m", "schemathesis.cli"),
        *("--config-file", str(FOLDER / "schemathesis.toml"), "run", f"{url}/api/openapi.json"),
        *("--exclude-path-regex", "/events$", "--phases", "examples,coverage,fuzzing,stateful"),
        *("--max-examples", "3", "--seed", "1", "--no-color", *more),
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(FOLDER), "SCHEMATHESIS_HOOKS": "hooks"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(LIMIT_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("scope", ["admin", "read", None])
@pytest.mark.req("D5", "F5")
async def test_the_api_does_what_its_description_says(
    daemon: Callable[..., Awaitable[Daemon]], tmp_path: Path, scope: str | None
) -> None:
    running = await daemon(JOBS, settings={"http": {"rate": 100_000}})
    url = str((await running.seen("ready"))["url"])
    for job in ("nightly", "broken", "outside"):
        await running.trigger(job)
    _, made = await running.request("POST", "/api/v1/tokens", {"name": "tester", "scope": scope or "read"})
    header = ("-H", f"Authorization: Bearer {made['token']}") if scope else ()

    code, said = await schemathesis(url, tmp_path, *header)

    cases = re.search(r"(\d+) generated, (\d+) passed", said)
    assert code == 0, said
    assert cases is not None and int(cases[2]) > 500, said
    assert [line for line in running.lines if line.get("event") == "request_failed"] == []
    assert made["token"] not in "\n".join(map(str, running.lines))
