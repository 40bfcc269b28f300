"""A front end follows one run and filtered lists of a real daemon, by streams and by polling, and sees the same."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.daemon import Daemon
from tests.support.eventually import eventually
from tests.support.sse import Event, stream

Start = Callable[..., Awaitable[Daemon]]
Picture = dict[int, Any]

JOBS = """
[jobs.tells]
handler = "tests.daemon.telling:tells"
lock_key = "{run_id}"
retry = { attempts = 1, backoff = "constant", base = "50ms" }
params = { steps = 3, fails = 0 }
"""
RUNS = 30


async def listed(node: Daemon, query: str) -> Picture:
    """The list as a front end polls it."""
    found: Picture = {}
    path: str | None = f"/api/v1/runs?limit=200&{query}"
    while path:
        _, page = await node.request("GET", path)
        found |= {run["id"]: run for run in page["items"]}
        path = page["cursor"] and f"/api/v1/runs?limit=200&{query}&cursor={page['cursor']}"
    return found


def apply(picture: Picture, event: Event) -> None:
    """What a front end makes of an event of a list."""
    match event.name:
        case "run":
            picture[event.data["id"]] = event.data
        case "gone":
            picture.pop(event.data["id"], None)
        case "progress" if event.data["run"] in picture:
            told = event.data
            picture[told["run"]] |= {
                "progress": told["progress"],
                "progress_note": told["note"],
                "heard_at": told["at"],
            }
        case "reset":
            raise AssertionError(event.data)


async def follow(node: Daemon, query: str, picture: Picture) -> None:
    """Keep `picture` up to date by a stream whose connection is lost again and again, wherever it just is."""
    last_id, lasts = "", 3
    while True:
        async with stream(node.socket, f"/events?{query}", last_id) as live:
            if not last_id:
                await live.placed()
                picture |= await listed(node, query)
            for _ in range(lasts):
                event = await live.next()
                assert event is not None
                apply(picture, event)
            lasts = 3 if live.last_id != last_id else lasts * 2  # all of this was told before
            last_id = live.last_id


@pytest.mark.req("F6", "D7")
@pytest.mark.parametrize("query", ["job=tells", "state=failed", "state=completed&tag=class:odd", "state=running"])
async def test_a_filtered_list_that_is_followed_ends_with_the_picture_that_polling_gives(
    daemon: Start, query: str
) -> None:
    node = await daemon(JOBS)
    picture: Picture = {}
    following = asyncio.create_task(follow(node, query, picture))

    for number in range(RUNS):
        tags = {"class": "odd" if number % 2 else "even"}
        await node.trigger("tells", params={"fails": number % 3}, tags=tags)
    await eventually(lambda: over(node), RUNS)
    polled = await listed(node, query)

    await eventually(lambda: asyncio.sleep(0, picture), polled)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert (len(polled) > 0) == (query != "state=running")


async def over(node: Daemon) -> int:
    found = await listed(node, "state=completed&state=failed")
    return len(found)


@pytest.mark.req("F6", "D2")
async def test_a_run_that_is_followed_tells_each_move_and_message_that_polling_finds(daemon: Start) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("tells", params={"steps": 20, "fails": 1})
    moves: dict[int, str] = {}
    said: dict[int, str] = {}
    last_id, last, lasts = "", {}, 3

    while last.get("state") != "completed":
        async with stream(node.socket, f"/runs/{run}/events", last_id) as live:
            for _ in range(lasts):
                event = await live.next()
                assert event is not None
                if event.name == "move":
                    moves[event.data["sequence"]] = event.data["act"]
                elif event.name == "message":
                    said[event.data["id"]] = event.data["text"]
                elif event.name == "run":
                    last = event.data
                    if last["state"] == "completed":
                        break
            lasts = 3 if live.last_id != last_id else lasts * 2
            last_id = live.last_id

    _, audit = await node.request("GET", f"/api/v1/runs/{run}/audit")
    _, messages = await node.request("GET", f"/api/v1/runs/{run}/messages?limit=1000")
    _, shown = await node.request("GET", f"/api/v1/runs/{run}")
    assert moves == {entry["sequence"]: entry["act"] for entry in audit["items"]}
    assert said == {message["id"]: message["text"] for message in messages["items"]}
    assert len(said) == 40
    assert last == {key: shown[key] for key in last}


@pytest.mark.req("E13")
async def test_an_open_stream_tells_to_the_end_of_a_drain_and_holds_up_no_stop(daemon: Start) -> None:
    node = await daemon(JOBS)
    run = await node.trigger("tells", params={"waits": True})

    async with stream(node.socket, f"/runs/{run}/events") as live:
        await live.until("run", state="running")
        node.signal(15)
        await node.notified("STOPPING", "1")
        node.release()
        await live.until("run", state="completed")
        rest = await live.next()

    assert rest is None
    assert await node.exited() == 0
