"""Requests of a real daemon go where its registry says, and to no address that a name or an answer leads them to."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.webhook import Webhook, webhook

Start = Callable[..., Awaitable[Daemon]]
# The system's resolver takes these for names' answers, no name server needed: 127.0.0.1 and 169.254.169.254.
REBOUND, METADATA = "0x7f000001", "0xa9fea9fe"


async def _ended(daemon: Daemon, job: str, **body: object) -> dict[str, Any]:
    run = await daemon.trigger(job, **body)
    await daemon.seen("run_completed" if job in ("own", "meant") else "run_failed", run=run)
    _, answer = await daemon.request("GET", f"/api/v1/runs/{run}/attempts")
    return dict(answer["items"][-1])


def _jobs(hook: Webhook) -> str:
    port = hook.address.rpartition(":")[2]
    return f"""
        [jobs]
        metadata = {{ http = {{ url = "http://{METADATA}/latest/meta-data/iam" }} }}
        rebound = {{ http = {{ url = "http://{REBOUND}:{port}/rebound" }} }}
        own = {{ http = {{ url = "http://127.0.0.1:{port}/own", method = "POST" }} }}
        meant = {{ http = {{ url = "http://{REBOUND}:{port}/meant", allow = ["127.0.0.0/8"] }} }}
        """


@pytest.mark.req("P11")
@pytest.mark.fault(48)
async def test_a_request_goes_to_no_address_that_a_name_leads_to_and_nobody_allowed(daemon: Start) -> None:
    async with webhook() as hook:
        node = await daemon(_jobs(hook))

        metadata, rebound = await _ended(node, "metadata"), await _ended(node, "rebound")
        meant = await _ended(node, "meant")

        assert [one["path"] for one in _received(hook)] == ["/meant"]
    assert metadata["error"] == (
        f'GET http://{METADATA}/latest/meta-data/iam: E0229: "{METADATA}" leads to 169.254.169.254, a link-local'
        ' address, where no request may go; if it is meant: allow = ["169.254.169.254"] beside its url'
    )
    assert f'"{REBOUND}" leads to 127.0.0.1, a loopback address' in rebound["error"]
    assert meant["outcome"] == "completed"


@pytest.mark.req("P11")
@pytest.mark.fault(48)
async def test_neither_parameters_nor_an_answer_choose_where_a_request_goes(daemon: Start) -> None:
    async with webhook() as hook, webhook() as elsewhere:
        node = await daemon(
            _jobs(hook).replace('"http://0x7f000001', '"http://127.0.0.1'), environ={"CANARY": "c4n4ry"}
        )
        params = {"url": f"http://{elsewhere.address}", "host": elsewhere.address, "note": "${CANARY} {run_id}"}

        await _ended(node, "own", params=params)
        hook.status = 302
        moved = await _ended(node, "rebound")

        own, redirected = _received(hook)
        assert (own["path"], own["url"], own["note"]) == ("/own", params["url"], "${CANARY} {run_id}")
        assert redirected["path"] == "/rebound"
        assert elsewhere.posts.empty()
    assert moved["error"].startswith("answered 302 Found, to /elsewhere; redirects are not followed")


@pytest.mark.req("P11")
@pytest.mark.fault(41, 48)
async def test_an_alert_is_not_sent_to_where_a_channels_name_was_led(daemon: Start) -> None:
    async with webhook() as hook:
        port = hook.address.rpartition(":")[2]
        channels = {
            "alerts.channels.led": {"url": f"json://{REBOUND}:{port}/led"},
            "alerts.channels.said": {"url": f"json://{hook.address}/said"},
            "alerts.channels.allowed": {"url": f"json://{REBOUND}:{port}/allowed", "allow": ["127.0.0.1"]},
        }
        node = await daemon('[jobs.bad]\ncommand = ["false"]\n', settings=channels)

        await node.trigger("bad")
        failed = await node.seen("alert_not_told", channel="led")
        came = {(await hook.posts.get())["path"].strip("/"), (await hook.posts.get())["path"].strip("/")}

        assert came == {"said", "allowed"}
        assert hook.posts.empty()
    assert f'"{REBOUND}" leads to 127.0.0.1, a loopback address, where no request may go' in failed["error"]


def _received(hook: Webhook) -> list[dict[str, Any]]:
    return [hook.posts.get_nowait() for _ in range(hook.posts.qsize())]
