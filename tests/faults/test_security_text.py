"""What others write, scripts and escape sequences, comes back as data: in answers, in the log, on a terminal."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from yarl import URL

from jobsd.web.app import ROUTES
from tests.support.command import in_terminal, on_terminal
from tests.support.daemon import Daemon

Start = Callable[..., Awaitable[Daemon]]
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'`--{{7*7}}"
STEERING = '\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b2J\r\u202egnp\u2028{"event":"forged"}\n<4>forged'
NASTY = SCRIPT + STEERING
JOBS = f"""
[jobs.outside]
external = true
description = {json.dumps(NASTY)}
[jobs.says]
command = ["sh", "-c", '''printf %s "$0"; exit 3''', {json.dumps(NASTY)}]
"""
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
STEERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


async def _told(node: Daemon) -> int:
    """A run of which every text that a program may write is nasty; its id."""
    run = await node.trigger("outside", params={NASTY: NASTY}, tags={"t": SCRIPT}, key=SCRIPT, reason=NASTY)
    base = f"/api/v1/runs/{run}"
    _, begun = await node.request("POST", f"{base}/start", {"reason": NASTY})
    fence = {"fence": begun["fence"]}
    for path, body in {
        "messages": {"level": "warning", "text": NASTY},
        "progress": {"progress": 0.5, "note": NASTY},
        "fail": {"error": NASTY},
    }.items():
        status, answer = await node.request("POST", f"{base}/{path}", {**body, **fence})
        assert status < 300, answer
    return run


@pytest.mark.req("E13")
@pytest.mark.fault(47)
async def test_scripts_in_every_field_come_back_as_json_that_no_browser_runs(daemon: Start) -> None:
    node = await daemon(JOBS)
    run = await _told(node)
    kinds: dict[str, set[str]] = {}
    seen = ""

    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(node.socket))) as session:
        paths = [route.path for route in ROUTES if route.method == "GET" and not route.path.endswith("/events")]
        for path in [*paths, "/nothing/<script>alert(1)</script>", "/api/v1/runs?state=<script>", "/api/v1/reload"]:
            filled = path.format(run=run, job="outside", pack="analytics", view="signals", token=SCRIPT)
            async with session.get(URL(f"http://jobsd{filled}")) as answer:
                text = await answer.text()
            assert answer.headers["X-Content-Type-Options"] == "nosniff", path
            assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'"), path
            assert answer.status < 500, path
            kinds.setdefault(answer.content_type, set()).add(path)
            if answer.content_type.endswith("json"):
                seen += json.dumps(json.loads(text), ensure_ascii=False)

    assert set(kinds) == {"application/json", "application/problem+json", "text/plain"}
    assert kinds["text/plain"] == {"/metrics"}
    assert seen.count("<script>alert(1)</script>") > 10


@pytest.mark.req("P11")
@pytest.mark.fault(28, 49)
async def test_no_line_of_the_log_is_forged_and_no_escape_sequence_is_in_it(daemon: Start) -> None:
    node = await daemon(JOBS)

    run = await _told(node)
    ended = await node.seen("run_failed", job="outside")
    await node.seen("run_failed", run=await node.trigger("says"))

    assert ended["run"] == run
    assert node.said == []  # every line is one JSON object, which a raw control character would spoil
    assert not any(line["event"] == "forged" for line in node.lines)


@pytest.mark.req("P11")
@pytest.mark.fault(49)
async def test_no_command_passes_a_jobs_escape_sequences_to_a_terminal(daemon: Start) -> None:
    node = await daemon(JOBS)
    run = str(await _told(node))
    says = str(await node.trigger("says"))
    await node.seen("run_failed", run=int(says))
    env = {"JOBSD_SOCKET": str(node.socket)}
    shown: dict[str, str] = {}

    for words in (
        *(("-o", form, "run", "show", run) for form in ("table", "json", "tsv")),
        *(("-o", form, "run", "logs", run) for form in ("table", "jsonl")),
        ("run", "logs", says),
        ("-o", "tsv", "run", "list"),
        ("audit", "list"),
        ("job", "show", "outside"),
        ("run", "show", NASTY.replace("\n", "")),
    ):
        ended = await asyncio.to_thread(on_terminal, *words, **env)
        shown[" ".join(words)[:40]] = COLOURS.sub("", ended.out).replace("\r\n", "\n")

    steered = {
        words: found for words, text in shown.items() if (found := STEERS.findall(text) + re.findall("\r", text))
    }
    assert steered == {}
    assert sum("script>" in text for text in shown.values()) > 7


@pytest.mark.req("P11")
@pytest.mark.fault(49)
async def test_a_log_on_a_terminal_is_not_steered_by_it_either(database_url: str) -> None:
    node = Daemon(database_url, JOBS, settings={"log": {"format": "auto"}})
    try:
        with in_terminal("serve", "--config", str(node.config), DATABASE_URL=database_url) as screen:
            await screen.shows("ready")
            await _told(node)
            await screen.shows("run_failed")
            screen.process.terminate()
            await screen.ended()
    finally:
        await node.close()

    assert "script>" in screen.shown
    assert STEERS.findall(COLOURS.sub("", screen.shown)) == []
