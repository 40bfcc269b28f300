"""Alive means advancing: every loop reports, one that dies takes the process along, and a canary flies the path."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from jobsd.daemon.node import Node, Parts
from jobsd.daemon.serve import _Daemon
from jobsd.domain.events import Event, Noted
from jobsd.domain.run import CANARY
from jobsd.engine import canary
from jobsd.observe.metrics import Metrics
from jobsd.observe.redact import Redactor
from jobsd.registry.load import load
from jobsd.store.db import Db
from jobsd.web.listen import Addresses
from tests.support.daemon import Daemon
from tests.support.engine import identity
from tests.support.eventually import eventually

Start = Callable[..., Awaitable[Daemon]]


class Left(BaseException):
    """What stands for the end of the process: everything up to it is real."""


@asynccontextmanager
async def opened(db: Db, folder: Path, observe: Callable[[Event], None]) -> AsyncIterator[Node]:
    (folder / "jobsd.toml").write_text('[jobs.nothing]\ncommand = ["true"]\n')
    registry = load(folder / "jobsd.toml", {})
    node = Node(Parts(db, db.url, identity("one"), folder, Metrics(registry.jobs), Redactor(), observe), registry)
    await node.open()
    try:
        yield node
    finally:
        await node.close()


@asynccontextmanager
async def looping(node: Node) -> AsyncIterator[None]:
    tasks = [asyncio.ensure_future(run()) for run in node.loops().values()]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


@pytest.mark.req("P12")
async def test_every_loop_reports_its_advance_and_has_a_limit(db: Db, tmp_path: Path) -> None:
    async with opened(db, tmp_path, lambda _event: None) as node, looping(node):

        async def silent() -> set[str]:
            return set(node.loops()) - set(node.here.pulse.beats())

        await eventually(silent, set())
        limits = {loop: beat.allowed_s for loop, beat in node.here.pulse.beats().items()}

    assert [loop for loop in node.loops() if not 0 < limits[loop] <= 150] == []


@pytest.mark.req("P12")
async def test_whichever_loop_dies_or_merely_ends_the_process_leaves_with_a_failure(
    db: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []

    async def dies() -> None:
        raise ValueError("nobody foresaw this")

    async def ends() -> None:
        return

    def leaves(_self: _Daemon, event: str, **_facts: object) -> None:
        raise Left(event)

    monkeypatch.setattr(_Daemon, "_leave", leaves)
    told: dict[str, list[str]] = {}
    async with opened(db, tmp_path, events.append) as node:
        loops = node.loops()
        for name in loops:
            for way in (dies, ends):
                events.clear()
                monkeypatch.setattr(node, "loops", lambda name=name, way=way: {**loops, name: way})
                daemon = _Daemon(node, lambda: node.registry, lambda _ready: None, 0.0)
                with pytest.raises(Left, match="left"):
                    await daemon._run(Addresses(None, None))
                died = [
                    event.fields["error"] for event in events if isinstance(event, Noted) and event.event == "loop_died"
                ]
                told.setdefault(name, []).extend(died)

    assert told == {
        name: ["ValueError: nobody foresaw this", f"RuntimeError: the loop {name} has ended"] for name in loops
    }


@pytest.mark.req("P12")
async def test_a_canary_flies_the_whole_path_again_and_again_and_leaves_nothing_in_the_database(
    db: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "EVERY_S", 0.01)
    events: list[Event] = []
    async with opened(db, tmp_path, events.append) as node:
        settled = 0
        ended = node.canary.ended

        def counted(batch: Any) -> None:
            nonlocal settled
            settled += len(batch)
            ended(batch)

        monkeypatch.setattr(node.canary, "ended", counted)
        async with looping(node):
            await eventually(lambda: _value(lambda: settled >= 5), True)
            await node.rest()
            await eventually(lambda: _value(lambda: node.canary.to_take), None)
            await node.workers.idle()
        latency_s = node.canary.latency_s

    left = {table: await db.fetchval(f"SELECT count(*) FROM jobsd.{table}") for table in LEAVES}
    assert left == dict.fromkeys(LEAVES, 0)
    assert latency_s is not None
    assert not [event for event in events if CANARY in repr(event)]


LEAVES = ("run", "attempt", "audit", "claim", "alert")


def _more_than(reports: Sequence[float], count: int) -> Callable[[], Awaitable[bool]]:
    return lambda: _value(lambda: len(reports) > count)


async def _value(look: Callable[[], Any]) -> Any:
    return look()


@pytest.mark.req("P12")
@pytest.mark.parametrize("stuck", ["claimer", "workers", "settler"])
async def test_a_canary_that_does_not_come_back_makes_the_node_unready_and_alerts(
    db: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stuck: str
) -> None:
    for name, seconds in {"EVERY_S": 0.01, "SILENT_S": 0.2, "LOOK_S": 0.02}.items():
        monkeypatch.setattr(canary, name, seconds)
    events: list[Event] = []
    hangs = asyncio.Event()

    async def hang(*_args: Any) -> Any:
        await hangs.wait()

    async with opened(db, tmp_path, events.append) as node:
        monkeypatch.setattr(
            *{
                "claimer": (node.claimer, "_claim"),
                "workers": (node.workers, "_supervise"),
                "settler": (node.settler, "_take"),
            }[stuck],
            hang,
        )
        async with looping(node):
            await eventually(lambda: _value(lambda: node.here.pulse.beats().get("canary", None) is not None), True)
            await eventually(lambda: _value(lambda: node.here.pulse.beats()["canary"].alive), False)
            alert = "SELECT count(*) FROM jobsd.alert WHERE type = 'HEALTH' AND summary LIKE '%canary%'"
            await eventually(lambda: db.fetchval(alert), 1)

    (silent,) = [event for event in events if isinstance(event, Noted) and event.event == "canary_silent"]
    assert silent.fields["seen_last"] in {"claimer": ["sent"]}.get(stuck, ["sent", "taken", "executed"])


@pytest.mark.req("P12")
async def test_places_that_work_has_taken_and_a_database_that_refuses_excuse_the_canary(
    db: Db, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canary, "LOOK_S", 0.01)
    async with opened(db, tmp_path, lambda _event: None) as node:
        for part, name, value in ((node.canary, "places", lambda: 0), (node.claimer, "refused", "disk full")):
            reports: list[float] = []
            with monkeypatch.context() as patched:
                patched.setattr(part, name, value)
                patched.setattr(node.here.pulse, "advance", lambda _loop, allowed_s, to=reports: to.append(allowed_s))
                flying = asyncio.ensure_future(node.canary.run())
                await eventually(_more_than(reports, 5), True)
                sent = node.canary.to_take
                flying.cancel()
                await asyncio.wait({flying})

            assert sent is None
            assert await db.fetchval("SELECT count(*) FROM jobsd.claim") == 0


@pytest.mark.req("P12", "C5")
async def test_readiness_lists_each_loop_with_its_age_and_its_limit(daemon: Start) -> None:
    node = await daemon('[jobs.nothing]\ncommand = ["true"]\n')

    async def flown() -> bool:
        return "canary_took_s" in (await node.request("GET", "/healthz"))[1]["components"]["loops"]["figures"]

    await eventually(flown, True)
    status, answer = await node.request("GET", "/readyz")
    metrics = (await node.request("GET", "/metrics"))[1]

    assert status == 200
    assert {"settler", "workers", "claimer", "canary", "listener", "fence", "lock session"} <= set(answer["loops"])
    assert [name for name, loop in answer["loops"].items() if not 0 <= loop["age_s"] <= loop["limit_s"]] == []
    reported = {
        name for name in answer["loops"] if f'jobsd_loop_last_advance_timestamp_seconds{{loop="{name}"}}' in metrics
    }
    assert reported == set(answer["loops"])
    assert (await node.request("GET", "/api/v1/runs"))[1]["items"] == []
    assert not [line for line in node.lines if line.get("job") == ".canary"]
