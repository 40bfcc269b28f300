"""Programs that do the work themselves, with a real daemon: the documented script, silence, a daemon that is killed."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from jobsd.store.db import Db
from tests.support.daemon import ROOT, Daemon

Start = Callable[..., Awaitable[Daemon]]
GUIDE = (ROOT / "docs/how-to/external-jobs.md").read_text()

EXTERNAL = """
[jobs.outside]
external = true
{more}
"""


def block(language: str) -> str:
    """The guide's one code block in a language."""
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    return str(found)


async def started(daemon: Daemon) -> dict[str, Any]:
    status, run = await daemon.request("POST", "/api/v1/jobs/outside/runs", {"start": True})
    assert status == 201, run
    return dict(run)


async def run_of(daemon: Daemon, run: int) -> dict[str, Any]:
    _, shown = await daemon.request("GET", f"/api/v1/runs/{run}")
    return dict(shown)


@pytest.mark.req("D5", "D1", "D2")
async def test_a_shell_script_of_ten_curl_lines_does_a_run_from_start_to_completion(daemon: Start) -> None:
    here = await daemon(block("toml"))
    script = here.folder / "condense.sh"
    script.write_text(block("sh"))

    process = await asyncio.create_subprocess_exec(
        *("sh", str(script)),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin", "JOBSD_SOCKET": str(here.socket)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()

    assert (process.returncode, said) == (0, b"")
    assert len(re.findall(r"\bcurl ", script.read_text())) == 10
    run = await run_of(here, 1)
    _, messages = await here.request("GET", "/api/v1/runs/1/messages")
    assert (run["state"], run["progress"], run["result"]) == ("completed", 1.0, {"sources": 11, "sentences": 3})
    assert [message["level"] for message in messages["items"]] == ["info", "warning"]
    await here.seen("run_completed", job="argument_condensation", run=1)


@pytest.mark.req("D3", "C6")
async def test_a_program_that_falls_silent_is_noticed_failed_and_told_of(daemon: Start, db: Db) -> None:
    settings = {"daemon": {"stale_sweep": "1s"}}
    here = await daemon(EXTERNAL.format(more='stale_after = "1s"'), settings=settings)
    run = await started(here)

    await here.seen("run_failed", run=run["id"], kind="stale")
    alert = await here.seen("job_stale", run=run["id"])
    late, refusal = await here.request("POST", f"/api/v1/runs/{run['id']}/complete", {"fence": run["fence"]})

    assert "nothing was heard of it" in alert["summary"]
    assert (late, refusal["code"], refusal["state"]) == (409, "E0517", "failed")
    assert (await run_of(here, run["id"]))["stale"] is False, "it is over"
    outcomes = "SELECT outcome FROM jobsd.attempts WHERE run = $1 ORDER BY outcome"
    assert [row["outcome"] for row in await db.fetch(outcomes, run["id"])] == ["failed", "rejected, stale"]


@pytest.mark.req("P7", "D5")
async def test_a_program_goes_on_over_the_kill_and_restart_of_the_daemon(daemon: Start) -> None:
    here = await daemon(EXTERNAL.format(more=""))
    run = await started(here)
    at, fence = f"/api/v1/runs/{run['id']}", {"fence": run["fence"]}

    await here.kill9()
    await here.start()
    alive, _ = await here.request("POST", f"{at}/heartbeat", fence)
    done, ended = await here.request("POST", f"{at}/complete", fence)

    assert (alive, done) == (200, 200)
    assert (ended["state"], ended["attempts"]) == ("completed", 1)


@pytest.mark.req("E2")
async def test_a_job_that_follows_an_external_one_starts_when_that_is_completed(daemon: Start) -> None:
    follows = 'schedule = { every = "1s" }\n[jobs.next]\ncommand = ["true"]\nschedule = { after = ["outside"] }'
    here = await daemon(EXTERNAL.format(more=follows))
    slot = await here.seen("slot_decided", job="outside")

    _, run = await here.request("POST", f"/api/v1/runs/{slot['run']}/start")
    await here.request("POST", f"/api/v1/runs/{run['id']}/complete", {"fence": run["fence"]})

    await here.seen("run_completed", job="next")


@pytest.mark.req("C5")
async def test_metrics_count_external_runs_and_forget_none(daemon: Start) -> None:
    here = await daemon(EXTERNAL.format(more='lock_key = "{run_id}"'))
    first, second = await started(here), await started(here)
    await here.request("POST", f"/api/v1/runs/{first['id']}/complete", {"fence": first["fence"]})
    body = {"fence": second["fence"], "error": "no"}
    await here.request("POST", f"/api/v1/runs/{second['id']}/fail", body)

    _, text = await here.request("GET", "/metrics")

    for line in (
        'job_runs_total{job="outside",outcome="completed"} 1',
        'job_runs_total{job="outside",outcome="failed"} 1',
        'job_duration_ms_count{job="outside"} 2',
        'jobsd_running{job="outside"} 0.0',
    ):
        assert line in text


def test_the_guide_shows_the_job_that_is_shipped() -> None:
    shipped = (ROOT / "config/jobs.d/examples.toml").read_text()

    for key in ("lock_key", "stale_after", "timeout", "max_active", "keep"):
        (line,) = re.findall(rf"^{key} = [^#\n]*", block("toml"), re.MULTILINE)
        assert line.strip() in shipped, line


SHARED = """
[jobs.outside]
external = true
lock_key = "both"

[jobs.inside]
sql = "SELECT 1"
lock_key = "both"
"""
OVERLAPS = """
    SELECT count(*)
      FROM jobsd.attempt a
      JOIN jobsd.attempt b ON b.run > a.run AND b.started_at < a.ended_at AND a.started_at < b.ended_at
"""


@pytest.mark.req("P3", "C4")
async def test_programs_and_nodes_that_contend_for_a_key_take_turns_and_no_node_falls(daemon: Start, db: Db) -> None:
    here = await daemon(SHARED)
    began = list[int]()
    all_done = asyncio.create_task(here.seen("run_completed", job="inside", times=10))

    async def take_turns() -> None:
        """Try for the key again and again, until the node has had all its own turns."""
        while not all_done.done():
            status, run = await here.request("POST", "/api/v1/jobs/outside/runs", {"start": True})
            if status == 201:
                began.append(run["id"])
                await here.request("POST", f"/api/v1/runs/{run['id']}/complete", {"fence": run["fence"]})

    await here.request("POST", "/api/v1/jobs/inside/runs", {"runs": [{}] * 10})
    await asyncio.gather(all_done, *(take_turns() for _ in range(4)))

    assert await db.fetchval(OVERLAPS) == 0
    assert began
    assert await db.fetchval("SELECT count(*) FROM jobsd.run WHERE state <> 'completed'") == 0
    assert [line for line in here.lines if line.get("event") == "loop_died"] == []
