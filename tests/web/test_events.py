"""Streams: what a front end is told while it follows one run or a list, also after it lost the connection."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from jobsd.domain.outcome import Completed, Failed
from jobsd.domain.run import ClaimedRun
from jobsd.store import queue
from jobsd.store.db import Db
from tests.support.engine import enqueued, request
from tests.support.site import Site, site
from tests.support.sse import stream

JOBS = """
[jobs.import]
command = ["true"]
lock_key = "{run_id}"

[jobs.flaky]
command = ["true"]
lock_key = "{run_id}"
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def begun(here: Site, job: str = "import") -> ClaimedRun:
    await enqueued(here.db, job)
    return (await here.here.keeper.claim(request(here.here, job))).runs[0]


@pytest.mark.req("D2", "F6")
async def test_a_run_is_told_from_its_beginning_then_as_it_goes_on(here: Site) -> None:
    run = await begun(here)
    await here.says(run, "before")

    async with stream(here.addresses.socket, f"/runs/{run.id}/events") as live:
        first = await live.until("run")
        await here.gets_to(run, 0.5, "half")
        (half,) = await live.until("progress")
        await here.says(run, "12 rows were left out", "warning")
        (said,) = await live.until("message")
        await here.ends(run, Completed({"rows": 3}))
        last = await live.until("run")

    assert [event.name for event in first] == ["move", "move", "message", "run"]
    assert [event.data["act"] for event in first if event.name == "move"] == ["queued", "started"]
    assert first[-1].data["state"] == "running"
    assert (half.data["progress"], half.data["note"], half.data["state"]) == (0.5, "half", "running")
    assert (said.data["level"], said.data["text"]) == ("warning", "12 rows were left out")
    assert [event.data["act"] for event in last if event.name == "move"] == ["completed"]
    assert last[-1].data["state"] == "completed"


@pytest.mark.req("F6")
async def test_who_comes_back_with_the_last_id_is_told_what_happened_meanwhile_and_nothing_before(here: Site) -> None:
    run = await begun(here)
    async with stream(here.addresses.socket, f"/runs/{run.id}/events") as live:
        await live.until("run")

    await here.says(run, "while nobody looked")
    await here.ends(run, Failed("exit", "exited with 3"))
    async with stream(here.addresses.socket, f"/runs/{run.id}/events", live.last_id) as again:
        told = await again.until("run")

    assert [event.name for event in told] == ["message", "move", "run"]
    assert told[-1].data["error"] == "exited with 3"


async def test_the_id_may_also_stand_in_the_address(here: Site) -> None:
    run = await begun(here)
    async with stream(here.addresses.socket, f"/runs/{run.id}/events") as live:
        await live.until("run")
    await here.ends(run, Completed())

    async with stream(here.addresses.socket, f"/runs/{run.id}/events?after={live.last_id}") as again:
        told = await again.until("run")

    assert [event.name for event in told] == ["move", "run"]


@pytest.mark.req("F6")
async def test_a_list_tells_runs_that_come_into_it_and_leave_it_and_no_others(here: Site) -> None:
    async with stream(here.addresses.socket, "/events?job=import&state=running") as live:
        await live.placed()
        other = await begun(here, "flaky")
        run = await begun(here)
        came = await live.until("run")
        await here.ends(other, Completed())
        await here.ends(run, Completed())
        left = await live.until("gone")

    assert [event.data["id"] for event in came] == [run.id]
    assert [event.data for event in left] == [{"id": run.id}]


async def test_a_list_is_narrowed_by_tags(here: Site) -> None:
    (french,) = await enqueued(here.db, "import", tags={"language": "fr", "class": "7b"})
    (german,) = await enqueued(here.db, "import", tags={"language": "de"})

    async with stream(here.addresses.socket, "/events?tag=language:fr&tag=class:7b") as live:
        await live.placed()
        taken = await here.here.keeper.claim(request(here.here, "import"))
        told = await live.until("run")

    assert {run.id for run in taken.runs} == {french, german}
    assert [event.data["id"] for event in told] == [french]
    assert told[0].data["tags"] == {"language": "fr", "class": "7b"}


@pytest.mark.req("D2")
async def test_a_list_tells_progress_of_its_running_runs(here: Site) -> None:
    run = await begun(here)

    async with stream(here.addresses.socket, "/events?job=import") as live:
        await live.placed()
        await here.gets_to(run, 0.25, "a quarter")
        (told,) = await live.until("progress")

    assert (told.data["run"], told.data["progress"], told.data["note"]) == (run.id, 0.25, "a quarter")


@pytest.mark.req("F6")
async def test_a_transaction_that_commits_late_is_told_though_later_ones_were_told_before(here: Site) -> None:
    row = queue.NewRun("import", "late")
    async with stream(here.addresses.socket, "/events") as live:
        await live.placed()
        async with here.db.transaction() as late:
            first = (await queue.enqueue(late, [row]))[0].id
            (second,) = await enqueued(here.db, "import")
            before = await live.until("run")
        after = await live.until("run")

    assert [event.data["id"] for event in before] == [second]
    assert [event.data["id"] for event in after] == [first]


async def test_a_transaction_that_was_under_way_when_the_connection_was_lost_is_told_too(here: Site) -> None:
    async with here.db.transaction() as late:
        run = (await queue.enqueue(late, [queue.NewRun("import", "late")]))[0].id
        async with stream(here.addresses.socket, "/events") as live:
            await live.placed()
            await enqueued(here.db, "import")
            await live.until("run")
    async with stream(here.addresses.socket, "/events", live.last_id) as again:
        told = await again.until("run")

    assert [event.data["id"] for event in told] == [run]


async def test_a_run_that_is_deleted_is_gone_for_who_follows_it(here: Site) -> None:
    run = await begun(here)
    await here.ends(run, Completed())

    async with stream(here.addresses.socket, f"/runs/{run.id}/events") as live:
        await live.until("run")
        await here.db.execute(
            "WITH gone AS (DELETE FROM jobsd.run WHERE id = $1 RETURNING id, job)"
            " INSERT INTO jobsd.audit (run, sequence, act, actor, job) SELECT id, 4, 'deleted', 'test', job FROM gone",
            run.id,
        )
        told = await live.until("gone")

    assert [event.name for event in told] == ["move", "gone"]


async def test_more_moves_than_are_told_at_once_tell_to_read_the_list_anew(here: Site) -> None:
    async with stream(here.addresses.socket, "/events") as live:
        await live.placed()
        await enqueued(here.db, "import", 2500)
        told = await live.until("reset")
        (run,) = await enqueued(here.db, "import")
        on = await live.until("run")

    assert told[-1].data["reason"] == "more than 2000 moves at once"
    assert [event.data["id"] for event in on] == [run]


async def test_an_id_of_another_database_tells_to_read_anew(here: Site) -> None:
    ahead = f"{2**62}:"

    async with stream(here.addresses.socket, "/events", ahead) as live:
        (told,) = await live.until("reset")

    assert told.data["reason"] == "the id is of another database"


@pytest.mark.parametrize("text", ["nonsense", "1", "1:2:", "-1:", "1:x", "9" * 25 + ":", f"{2**63}:"])
async def test_an_id_that_no_stream_gave_is_refused(here: Site, text: str) -> None:
    reader, writer = await asyncio.open_unix_connection(here.addresses.socket)
    writer.write(f"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {text}\r\n\r\n".encode())
    async with asyncio.timeout(30):
        head = await reader.readline()
    writer.close()

    assert head.startswith(b"HTTP/1.1 422")


async def test_a_run_that_is_not_there_is_404_not_a_stream(here: Site) -> None:
    with pytest.raises(AssertionError, match="E0503"):
        async with stream(here.addresses.socket, "/runs/4711/events"):
            pass
