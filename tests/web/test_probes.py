"""Probes tell the truth: alive means advancing, and each component is judged by itself."""

import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from jobsd.registry.load import Registry
from jobsd.store import queue
from jobsd.store.db import Db
from jobsd.store.queue import Depth, NewRun
from jobsd.web.health import Verdict, health, readiness, resident_bytes
from jobsd.web.vitals import Answer, LoopAge, Reload, Vitals
from tests.support.postgres import OwnServer
from tests.support.web import Site, site, well

WELL = Answer(Depth(0, 0, 0, 0.0), 0.01)


@pytest.fixture
def vitals(tmp_path: Path) -> Vitals:
    return well(tmp_path)


@pytest.mark.req("C5", "P12")
async def test_a_daemon_that_works_is_alive_ready_and_healthy(served: Site) -> None:
    live, _, _ = await served.ask("GET", "/livez", tcp=True)
    ready, readiness_, _ = await served.ask("GET", "/readyz", tcp=True)
    _, health_, _ = await served.ask("GET", "/healthz", tcp=True)

    assert (live, ready, readiness_["ready"]) == (200, 200, True)
    assert set(readiness_["checks"]) == {"loops", "lock_session", "database", "draining"}
    expected = {"database", "lock_session", "loops", "queue", "settlements", "disk", "memory", "log", "reload"}
    assert set(health_["components"]) == expected
    assert health_["components"]["loops"]["figures"] == {"claimer_age_s": 0.1, "scheduler_age_s": 0.2}


@pytest.mark.parametrize(
    ("change", "failing", "text"),
    [
        ({"loops": {"claimer": LoopAge(60, 5), "web": LoopAge(1, 5)}}, "loops", "standing still: claimer for 60 s"),
        ({"loops": {}}, "loops", "none has started yet"),
        ({"lock_session_up": False}, "lock_session", "down"),
        ({"draining": True}, "draining", "draining"),
    ],
)
@pytest.mark.req("P12")
async def test_one_check_that_fails_is_not_ready_and_the_others_are_told(
    db: Db, registry: Registry, vitals: Vitals, change: dict[str, object], failing: str, text: str
) -> None:
    async with site(db, registry, vitals=lambda: replace(vitals, **change)) as here:  # type: ignore[arg-type]
        status, body, _ = await here.ask("GET", "/readyz", tcp=True)
        alive, _, _ = await here.ask("GET", "/livez", tcp=True)

    assert (status, alive) == (503, 200)
    assert {name for name, check in body["checks"].items() if not check["ok"]} == {failing}
    assert body["checks"][failing]["text"] == text


@pytest.fixture
async def gone(postgres_server: OwnServer) -> AsyncIterator[Db]:
    """A database whose server has been stopped."""
    async with Db.open(await postgres_server.database()) as db:
        await db.fetchval("SELECT 1")
        postgres_server.stop()
        yield db


@pytest.mark.req("P6", "E13")
async def test_without_the_database_probes_answer_and_the_api_says_503(gone: Db, registry: Registry) -> None:
    async with site(gone, registry) as here:
        ready, checks, _ = await here.ask("GET", "/readyz")
        _, verdict, _ = await here.ask("GET", "/healthz")
        status, view, _ = await here.ask("GET", "/api/v1/status")
        listed, problem, headers = await here.ask("GET", "/api/v1/runs")
        asked, _, _ = await here.ask("POST", "/api/v1/jobs/nightly/runs")

    assert (ready, checks["checks"]["database"]["ok"]) == (503, False)
    assert (verdict["verdict"], verdict["components"]["queue"]["verdict"]) == ("critical", "degraded")
    assert verdict["recommendations"][0].startswith("is PostgreSQL up and reachable?")
    assert (status, view["verdict"], view["queue"]) == (200, "critical", None)
    assert (listed, problem["code"], headers["Retry-After"]) == (503, "E0511", "5")
    assert asked == 503
    assert here.woken == []


@pytest.mark.req("E5", "E11")
async def test_the_queue_is_counted_and_an_old_backlog_degrades(db: Db, registry: Registry) -> None:
    late = datetime.now(UTC) - timedelta(minutes=10)
    await queue.enqueue(db, [NewRun("a", "me", due_at=late), NewRun("a", "me", due_at=late + timedelta(days=1))])

    async with site(db, registry) as here:
        _, body, _ = await here.ask("GET", "/healthz")

    part = body["components"]["queue"]
    assert (part["figures"]["due"], part["figures"]["later"], part["verdict"]) == (1, 1, "degraded")
    assert part["text"].startswith("1 due, 1 for later, 0 running; the oldest has been due for 6")
    assert any("jobsd job why JOB" in way for way in body["recommendations"])


@pytest.mark.req("E5")
def test_the_verdict_is_that_of_the_worst_part_and_its_way_out_comes_first(vitals: Vitals) -> None:
    rejected = Reload(datetime(2026, 11, 22, tzinfo=UTC), ok=False, text="E0204: unknown key")
    found = health(replace(vitals, lock_session_up=False, reload=rejected), WELL)

    assert found.verdict is Verdict.CRITICAL
    assert found.components["reload"].verdict is Verdict.DEGRADED
    assert found.recommendations[0].endswith("without its lock session this node starts nothing")
    assert found.recommendations[-1].endswith("jobsd check")


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (WELL, Verdict.HEALTHY),
        (Answer(Depth(0, 0, 0, 0.0), 1.0), Verdict.DEGRADED),
        (Answer(None, 2.0, "no answer within 2 s"), Verdict.CRITICAL),
    ],
)
@pytest.mark.req("E5")
def test_a_slow_database_degrades_and_a_silent_one_is_critical(
    vitals: Vitals, answer: Answer, verdict: Verdict
) -> None:
    assert health(vitals, answer).components["database"].verdict is verdict


@pytest.mark.parametrize(
    ("free", "verdict"), [(11, Verdict.HEALTHY), (9, Verdict.DEGRADED), (4, Verdict.CRITICAL), (0, Verdict.CRITICAL)]
)
@pytest.mark.req("E5")
def test_disk_space_is_judged_at_ten_and_five_percent(
    vitals: Vitals, monkeypatch: pytest.MonkeyPatch, free: int, verdict: Verdict
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=100, used=100 - free, free=free))

    assert health(vitals, WELL).components["disk"].verdict is verdict


def test_a_state_directory_that_is_gone_is_critical(vitals: Vitals) -> None:
    found = health(replace(vitals, state_dir=vitals.state_dir / "gone"), WELL)

    assert found.components["disk"].verdict is Verdict.CRITICAL


@pytest.mark.req("E11")
def test_memory_is_that_of_this_process(vitals: Vitals) -> None:
    before = resident_bytes()
    taken = bytearray(64 << 20)

    grown = health(vitals, WELL).components["memory"].figures["resident_bytes"]

    assert isinstance(grown, int)
    assert grown - before > 32 << 20
    assert len(taken) == 64 << 20


def test_a_loop_is_advancing_up_to_its_allowed_age(vitals: Vitals) -> None:
    at_the_limit = replace(vitals, loops={"claimer": LoopAge(5, 5)})

    assert readiness(at_the_limit, WELL).ready


@pytest.mark.req("C5")
async def test_metrics_are_given_as_they_are(served: Site) -> None:
    status, body, headers = await served.ask("GET", "/metrics", tcp=True)

    assert (status, body) == (200, b"jobsd_running 0\n")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"


async def test_a_head_request_has_the_get_requests_head_alone(served: Site) -> None:
    got, whole, _ = await served.ask("GET", "/livez")
    head, nothing, headers = await served.ask("HEAD", "/livez")

    assert (got, head, nothing) == (200, 200, b"")
    assert int(headers["Content-Length"]) == len('{"alive":true}')
    assert whole == {"alive": True}
