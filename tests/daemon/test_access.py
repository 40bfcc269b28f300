"""A daemon that listens on every address: nobody gets in without a token, and whoever has one does what it may."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp
import psutil
import pytest

from tests.support.command import jobsd
from tests.support.daemon import Daemon
from tests.support.tokens import bearer
from tests.support.wire import wire

JOBS = """
[jobs.report]
command = ["true"]
"""
EVERYWHERE = {"http": {"host": "0.0.0.0", "hosts": ["jobs.example.org"]}}


def own_addresses() -> list[str]:
    """Every IPv4 address that this machine has."""
    return [each.address for all_ in psutil.net_if_addrs().values() for each in all_ if each.family == socket.AF_INET]


async def ask(method: str, url: str, headers: Mapping[str, str] | None = None, body: object = None) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=headers, json=body) as answer:
        return answer.status, await answer.json(content_type=None)


@pytest.mark.req("A6", "D5", "F8")
async def test_off_loopback_everything_but_the_probes_takes_a_token(
    daemon: Callable[..., Awaitable[Daemon]],
) -> None:
    running = await daemon(JOBS, settings=EVERYWHERE)
    port = (await running.seen("ready"))["url"].rpartition(":")[2]
    _, made = await running.request("POST", "/api/v1/tokens", {"name": "ci", "scope": "trigger"})
    key = bearer(made["token"])

    for address in own_addresses():
        url = f"http://{address}:{port}"
        probe, _ = await ask("GET", f"{url}/readyz")
        silent, problem = await ask("GET", f"{url}/api/v1/runs")
        metrics, _ = await ask("GET", f"{url}/healthz")
        reading, _ = await ask("GET", f"{url}/api/v1/runs", key)
        changing, run = await ask("POST", f"{url}/api/v1/jobs/report/runs", key, {"reason": "by token"})
        too_far, _ = await ask("POST", f"{url}/api/v1/reload", key, {})
        rebound, _ = await ask("GET", f"{url}/api/v1/runs", {**key, "Host": "evil.test"})
        named, _ = await ask("GET", f"{url}/api/v1/runs", {**key, "Host": "jobs.example.org"})

        assert (probe, silent, metrics, problem["code"]) == (200, 401, 401, "E0402"), address
        assert (reading, changing, too_far, rebound, named) == (200, 201, 403, 421, 200), address
        assert run["actor"] == "token:ci"
        await running.seen("run_completed", run=run["id"])
    assert made["token"] not in str(running.lines)


@pytest.mark.req("A6")
async def test_a_command_on_another_host_waits_for_its_run_with_a_token(
    daemon: Callable[..., Awaitable[Daemon]],
) -> None:
    running = await daemon(JOBS, settings=EVERYWHERE)
    port = (await running.seen("ready"))["url"].rpartition(":")[2]
    _, made = await running.request("POST", "/api/v1/tokens", {"name": "ci", "scope": "trigger", "expires": None})

    there = ("--url", f"http://127.0.0.1:{port}")
    ended = await asyncio.to_thread(jobsd, *there, "trigger", "report", "--wait", JOBSD_TOKEN=made["token"])
    without = await asyncio.to_thread(jobsd, *there, "run", "list")

    assert ended.code == 0, ended.err
    assert (without.code, "error[E0402]" in without.err) == (4, True)


async def test_strangers_write_no_more_into_the_log_than_that_they_were_refused(
    daemon: Callable[..., Awaitable[Daemon]],
) -> None:
    running = await daemon(JOBS, settings=EVERYWHERE)
    url = (await running.seen("ready"))["url"].replace("0.0.0.0", "127.0.0.1")

    for garbage in (b"GARBAGE\r\n\r\n", b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00\x01"):
        async with wire(url) as stranger:
            await stranger.send(garbage)
            assert (await stranger.rest()).startswith(b"HTTP/1.0 400")
    for number in range(15):
        await ask("GET", f"{url}/api/v1/runs", bearer(f"jobsd_{number:043d}"))
    await running.seen("token_refused", times=10)

    assert [line for line in running.lines if line["event"] in ("library", "request_failed")] == []
    assert len([line for line in running.lines if line["event"] == "token_refused"]) == 10
