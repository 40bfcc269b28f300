"""The HTTP clients against the real application: the same calls from a program that waits, and from one on asyncio."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from jobsd.client import HttpClient, NotOver, Refused, Run, Unreachable
from jobsd.client.aio import AsyncHttpClient
from jobsd.domain.outcome import Completed
from jobsd.store.db import Db
from tests.support.site import Site, site

JOBS = """
[jobs.work]
command = ["true"]
params = { region = "eu" }

[jobs.condense]
external = true
"""
Ask = Callable[..., Any]  # the name of a call and what goes with it


@pytest.fixture
async def served(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as here:
        yield here


@pytest.fixture(params=["waiting", "asyncio"])
async def ask(request: pytest.FixtureRequest, served: Site) -> AsyncIterator[Ask]:
    """`await ask("enqueue", "work")` on either client."""
    socket = served.addresses.socket
    if request.param == "waiting":
        waiting = HttpClient(socket=socket)
        yield lambda name, *args, **more: asyncio.to_thread(getattr(waiting, name), *args, **more)
    else:
        async with AsyncHttpClient(socket=socket) as client:
            yield lambda name, *args, **more: getattr(client, name)(*args, **more)


@pytest.mark.req("F1", "F5", "D5")
async def test_runs_are_asked_for_read_and_cancelled(served: Site, ask: Ask) -> None:
    run = await ask("enqueue", "work", Run({"n": 1}, priority=1, key="k", tags={"a": "b"}), reason="term")
    again = await ask("enqueue", "work", Run({"n": 1}, priority=1, key="k", tags={"a": "b"}))
    many = await ask("enqueue_many", "work", [Run(), Run({"n": 2})], key="batch")
    cancelled = await ask("cancel", many["ids"][0], reason="not needed")

    shown = await ask("run", run["id"])
    assert (shown["params"], shown["priority"], shown["tags"]) == ({"region": "eu", "n": 1}, 1, {"a": "b"})
    assert (again["id"], again["created"]) == (run["id"], False)
    assert (many["created"], many["existing"]) == (2, 0)
    assert (cancelled["id"], cancelled["state"]) == (many["ids"][0], "cancelled")


async def test_waiting_for_a_run_ends_with_it(served: Site, ask: Ask) -> None:
    run = await ask("enqueue", "work")
    waiting = asyncio.create_task(ask("wait", run["id"]))

    await served.ends(await served.taken(), Completed({"rows": 7}))
    ended = await waiting

    assert (ended["state"], ended["result"]) == ("completed", {"rows": 7})


async def test_waiting_has_an_end_that_leaves_the_run_alone(served: Site, ask: Ask) -> None:
    run = await ask("enqueue", "work")

    with pytest.raises(NotOver, match=f"run {run['id']} is queued still") as later:
        await ask("wait", run["id"], 0.05)

    assert later.value.run["state"] == "queued"


async def test_what_is_refused_has_its_code_and_its_words(served: Site, ask: Ask) -> None:
    with pytest.raises(Refused, match='E0501: no job named "wrok"') as refused:
        await ask("enqueue", "wrok")
    run = await ask("enqueue", "work")
    with pytest.raises(Refused) as conflict:
        await ask("retry", run["id"])

    assert (refused.value.status, refused.value.code) == (404, "E0501")
    assert (conflict.value.status, conflict.value.code) == (409, "E0502")


@pytest.mark.req("D1", "D2", "D5")
async def test_a_program_reports_work_that_it_does_itself(served: Site, ask: Ask) -> None:
    run = await ask("start", "condense", Run({"topic": "x"}), reason="asked by the editor")
    mine = (run["id"], run["fence"])
    await ask("progress", *mine, 0.0, steps={"load": 1, "condense": 3})
    told = await ask("progress", *mine, 0.5, step="condense", note="half of it")
    await ask("message", *mine, "one argument was empty", "warning")
    await ask("heartbeat", *mine)
    ended = await ask("complete", *mine, {"arguments": 12})

    assert run["state"] == "running"
    assert told["progress"] == pytest.approx(0.625)
    assert (ended["state"], ended["result"]) == ("completed", {"arguments": 12})
    with pytest.raises(Refused) as late:
        await ask("heartbeat", *mine)
    assert late.value.code == "E0517"


async def test_a_queued_run_is_begun_and_fails_with_its_error_word_for_word(served: Site, ask: Ask) -> None:
    queued = await ask("enqueue", "condense")
    begun = await ask("start_queued", queued["id"])
    ended = await ask("fail", begun["id"], begun["fence"], "the model said no", kind="model", final=True)

    assert (ended["state"], ended["error"], ended["error_kind"]) == ("failed", "the model said no", "model")


async def test_where_nobody_listens_is_told(tmp_path: Path) -> None:
    nowhere = tmp_path / "jobsd.sock"

    with pytest.raises(Unreachable, match=r"jobsd\.sock"):
        HttpClient(socket=nowhere).run(1)
    async with AsyncHttpClient(socket=nowhere) as client:
        with pytest.raises(Unreachable, match=r"jobsd\.sock"):
            await client.run(1)


async def test_over_tcp_reading_is_open_on_loopback_and_changes_need_a_token(served: Site) -> None:
    run = await served.jobsd("trigger", "work", "-o", "json")
    assert run.code == 0, run.err
    waiting = HttpClient(served.addresses.url)

    async with AsyncHttpClient(served.addresses.url, token="jobsd_none") as client:
        shown = await asyncio.to_thread(waiting.run, 1)
        with pytest.raises(Refused) as without:
            await asyncio.to_thread(waiting.enqueue, "work")
        with pytest.raises(Refused) as unknown:
            await client.enqueue("work")

    assert shown["job"] == "work"
    assert (without.value.code, unknown.value.code) == ("E0402", "E0410")


def test_both_clients_have_the_same_calls() -> None:
    calls = {
        kind: {
            name: [*inspect.signature(call).parameters.values()]
            for name, call in vars(kind).items()
            if not name.startswith("_")
        }
        for kind in (HttpClient, AsyncHttpClient)
    }

    assert calls[HttpClient] == calls[AsyncHttpClient]


def test_a_client_is_of_one_address() -> None:
    for kind in (HttpClient, AsyncHttpClient):
        with pytest.raises(ValueError, match="either a url or a socket"):
            kind()
        with pytest.raises(ValueError, match="either a url or a socket"):
            kind("http://localhost:8620", socket="/run/jobsd/jobsd.sock")
