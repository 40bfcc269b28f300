"""A short campaign of `make faults`: a few random faults under the mixed load, and nothing is to be found broken."""

from pathlib import Path

import pytest

from tests.faults.chaos.__main__ import run

FAULTS, SEED = 8, 3


@pytest.mark.timeout(600)
@pytest.mark.req("P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8", "P9", "P10", "P12")
@pytest.mark.fault(1, 2, 4, 5, 8, 9, 20, 21)
async def test_a_few_random_faults_under_a_mixed_load_break_no_promise(tmp_path: Path) -> None:
    report = await run(SEED, FAULTS, tmp_path)

    assert report.holds, report.text()
    assert len(report.done) >= FAULTS
    assert len(report.history.acknowledged) > FAULTS, "there was hardly any load"
    assert len(report.history.lines) > 10 * FAULTS, "the jobs told next to nothing"
