"""The spool by itself: what comes back is what was kept; what cannot be kept is told once and harms nobody."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from jobsd.domain.events import Event, Noted
from jobsd.domain.outcome import AlertRow, Settlement, Usage
from jobsd.domain.run import ClaimedRun, Fence, NodeId, RunId, RunState
from jobsd.engine import spool as spools
from jobsd.engine.spool import Spool
from jobsd.store.history import Ended

AT = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)


def ended(run: int = 1, **changes: Any) -> Ended:
    claimed = ClaimedRun(RunId(run), "work", Fence(1 << 40), 2, 1, 5, {"a": [1, None]}, False, AT, AT, AT, 7, 8, "key")
    settlement: dict[str, Any] = {
        "error": "Ärger",
        "result": {"big": 1 << 70, "list": [1.5, True]},
        "usage": Usage("out", 3, 1 << 30, 0.25),
        "due_at": AT,
        "evidence": {"proof": "x"},
        "alert": AlertRow("JOB_FAILED", "f", "s", "work", run, {"error": "x"}),
    } | changes
    return Ended(claimed, NodeId(3), Settlement(RunState.FAILED, "failed", "failed", "exit", **settlement), AT)


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []


@pytest.mark.req("P5")
async def test_what_another_start_finds_is_what_was_kept_until_it_is_dropped(tmp_path: Path) -> None:
    events: list[Event] = []
    first = Spool(tmp_path / "spool", events.append)
    outcomes = [ended(1), ended(2, error=None, result=None, alert=None)]

    await first.keep(outcomes)
    await first.keep(outcomes)
    second = Spool(tmp_path / "spool", events.append)
    found = await second.left()
    second.drop(found)

    assert found == outcomes
    assert (first.kept, second.kept, first.error) == (2, 0, "")
    assert await second.left() == []
    assert [event.event for event in events if isinstance(event, Noted)] == ["outcomes_spooled"]


@pytest.mark.req("P5")
@pytest.mark.fault(30)
async def test_half_a_character_in_an_error_is_kept_as_the_database_would(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", lambda _event: None)

    await spool.keep([ended(error="half \ud800 of one")])

    assert [each.settlement.error for each in await spool.left()] == ["half ? of one"]


@pytest.mark.req("P5")
@pytest.mark.fault(15)
async def test_what_does_not_fit_is_told_once_and_what_does_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MOST_BYTES", 5_000)
    events: list[Event] = []
    spool = Spool(tmp_path / "spool", events.append)
    large, small = ended(1, error="x" * 10_000), ended(2)

    await spool.keep([large, small])
    await spool.keep([large, small])

    assert names(tmp_path / "spool") == [f"2-{1 << 40}.json"]
    assert spool.kept == 1
    assert "the spool may hold" in spool.error
    assert [event.event for event in events if isinstance(event, Noted)] == ["outcomes_not_spooled"]


@pytest.mark.req("P5")
@pytest.mark.fault(37)
async def test_a_file_that_power_loss_cut_short_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    events: list[Event] = []
    spool = Spool(tmp_path / "spool", events.append)
    await spool.keep([ended(1), ended(2)])
    whole = (tmp_path / "spool" / f"1-{1 << 40}.json").read_bytes()
    for at in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "spool" / f"9-{at}.json").write_bytes(whole[:at])
    (tmp_path / "spool" / "9-9.json.new").write_bytes(whole)

    found = await Spool(tmp_path / "spool", events.append).left()

    assert [each.run.id for each in found] == [1, 2]
    told = [event.event for event in events if isinstance(event, Noted)]
    assert told == ["outcomes_spooled", *["spooled_outcome_unreadable"] * 4]
    assert len([name for name in names(tmp_path / "spool") if name.endswith(".corrupt")]) == 4
    assert not [name for name in names(tmp_path / "spool") if name.endswith(".new")]
