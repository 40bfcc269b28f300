"""A guardian that is itself ended: its tree is ended all the same, and nobody else's."""

import asyncio
import os
from pathlib import Path

import pytest

from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import TREE_SIZE, Bench, alive, failed, guardians_of, pids_in, tree


@pytest.mark.fault(26)
@pytest.mark.req("P3", "P11")
async def test_a_guardian_that_is_killed_takes_its_tree_with_it(bench: Bench, tmp_path: Path) -> None:
    work = asyncio.create_task(execute(bench.execution(command=tree(tmp_path / "pids"))))
    pids = await pids_in(tmp_path / "pids", TREE_SIZE)
    (guardian,) = guardians_of(os.getpid())

    guardian.kill()
    outcome = failed(await work)

    assert outcome.kind == "guardian"
    assert "SIGKILL" in outcome.error
    assert alive(pids) == []


@pytest.mark.req("P3")
async def test_another_installations_tree_with_the_same_numbers_is_left_alone(bench: Bench, tmp_path: Path) -> None:
    other = asyncio.create_task(execute(Bench(tmp_path).execution(command=tree(tmp_path / "others"))))
    others = await pids_in(tmp_path / "others", TREE_SIZE)
    (others_guardian,) = guardians_of(os.getpid())
    work = asyncio.create_task(execute(bench.execution(command=tree(tmp_path / "pids"))))
    await pids_in(tmp_path / "pids", TREE_SIZE)

    for guardian in guardians_of(os.getpid()):
        if guardian != others_guardian:
            guardian.kill()
    await work
    lived_on = alive(others)
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other

    assert lived_on == others


@pytest.mark.req("B8")
async def test_a_guardian_that_cannot_work_says_why(bench: Bench, tmp_path: Path) -> None:
    bench.guardians.lock_file = tmp_path / "no" / "such" / "kids.lock"

    outcome = failed(await execute(bench.execution(command=["touch", str(tmp_path / "ran")])))

    assert outcome.kind == "guardian"
    assert "FileNotFoundError" in outcome.error
    assert not (tmp_path / "ran").exists()
