"""Dry runs: whoever asks for one, no work is done, and the result says what it would have been."""

from pathlib import Path
from typing import Any

import pytest

from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import HANDLERS, Bench, completed

ASKED: list[dict[str, Any]] = [{"dry_run": True}, {"run": {"dry_run": True}}]


@pytest.mark.req("A8")
@pytest.mark.parametrize("asked", ASKED, ids=["node", "run"])
async def test_a_dry_run_starts_no_command_and_says_what_it_would_run(
    bench: Bench, tmp_path: Path, asked: dict[str, Any]
) -> None:
    execution = bench.execution(command=["touch", f"{tmp_path}/ran"], params={"n": 1}, **asked)

    outcome = completed(await execute(execution))

    assert outcome.result == {
        "dry_run": True,
        "would_run": ["touch", f"{tmp_path}/ran"],
        "cwd": None,
        "params": {"n": 1},
    }
    assert not (tmp_path / "ran").exists()


@pytest.mark.req("A8")
async def test_a_job_declared_dry_is_rehearsed(bench: Bench) -> None:
    execution = bench.execution(command=["false"])
    execution.definition = execution.definition.model_copy(update={"dry_run": True})

    assert completed(await execute(execution)).result["dry_run"] is True


@pytest.mark.req("A8")
async def test_a_handler_that_does_not_honour_dry_runs_is_not_called(bench: Bench) -> None:
    execution = bench.execution(handler=f"{HANDLERS}:raises", params={"what": "ValueError"}, dry_run=True)

    outcome = completed(await execute(execution))

    assert outcome.result == {
        "dry_run": True,
        "would_call": f"{HANDLERS}:raises",
        "params": {"what": "ValueError"},
    }


@pytest.mark.req("A8")
@pytest.mark.parametrize("isolation", [None, "process"])
async def test_a_handler_that_honours_dry_runs_is_called_and_told(bench: Bench, isolation: str | None) -> None:
    execution = bench.execution(
        handler=f"{HANDLERS}:says_what_it_would", params={"count": 7}, dry_run=True, isolation=isolation
    )

    outcome = completed(await execute(execution))

    assert outcome.result == {"would_delete": 7, "dry_run": True}
