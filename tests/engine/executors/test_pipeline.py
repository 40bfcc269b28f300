"""Progress: of weighted steps, thinned, and refused where a job shows none."""

import math
from typing import Any

import pytest

from jobsd.engine.executors.base import execute
from jobsd.engine.executors.pipeline import Steps
from tests.engine.executors.bench import HANDLERS, Bench, completed, failed

WEIGHTS = (("load", 1.0), ("condense", 8.0), ("store", 1.0))


async def run(bench: Bench, name: str, **keys: Any) -> Any:
    return await execute(bench.execution(handler=f"{HANDLERS}:{name}", **keys))


@pytest.mark.req("D2")
async def test_a_run_stands_where_its_weighted_steps_do(bench: Bench) -> None:
    completed(await run(bench, "walks_a_pipeline"))

    assert [(step, fraction) for step, fraction, _ in bench.report.steps] == [
        ("load", 0.0),
        ("load", pytest.approx(0.1)),
        ("condense", pytest.approx(0.1)),
        ("condense", pytest.approx(0.5)),
        ("condense", pytest.approx(0.9)),
        ("store", pytest.approx(0.9)),
        ("store", pytest.approx(0.95)),
        ("store", 1.0),
    ]
    assert {steps for _, _, steps in bench.report.steps} == {WEIGHTS}
    assert ("progress", pytest.approx(0.5), "half of it") in bench.report.told


@pytest.mark.req("D2")
async def test_a_plain_functions_steps_come_over_the_pipe_with_the_last_word(bench: Bench) -> None:
    completed(await run(bench, "walks_a_pipeline_plainly"))

    assert bench.report.steps[-1] == ("condense", pytest.approx(0.9), WEIGHTS)


@pytest.mark.req("D2", "B2")
@pytest.mark.parametrize("name", ["shows_progress", "shows_progress_plainly", "declares_a_pipeline"])
async def test_an_atomic_job_that_shows_progress_fails_with_the_reason(bench: Bench, name: str) -> None:
    atomic = failed(await run(bench, name, atomic=True))
    silent = failed(await run(bench, name, progress=False))

    assert atomic.error.startswith(
        "ProgressRefused: E0516: work shows no progress, since it is atomic; ctx.heartbeat() is always taken"
    )
    assert "since it declares progress = false" in silent.error
    assert bench.report.told == []


@pytest.mark.req("B2")
async def test_progress_of_an_atomic_job_is_dropped_also_when_its_process_writes_it_itself(bench: Bench) -> None:
    completed(await run(bench, "forges_progress", atomic=True))

    assert bench.report.told == []


@pytest.mark.req("D3")
@pytest.mark.parametrize("name, atomic", [("lives", True), ("lives_plainly", False)])
async def test_a_heartbeat_is_always_taken_and_costs_little(bench: Bench, name: str, atomic: bool) -> None:
    completed(await run(bench, name, atomic=atomic))

    assert {word for word, _, _ in bench.report.told} == {"heartbeat"}
    assert len(bench.report.told) < 10


@pytest.mark.parametrize(
    "weights, complaint",
    [
        ({}, "expected 1 to 100 steps, got 0"),
        ({f"s{n}": 1 for n in range(101)}, "expected 1 to 100 steps, got 101"),
        ({"load": 0}, 'step "load": expected a weight above 0, got 0'),
        ({"load": math.nan}, 'step "load": expected a weight above 0, got nan'),
        ({"load": math.inf}, 'step "load": expected a weight above 0, got inf'),
        ({"": 1}, "expected a step's name of 1 to 100 printable characters, got ''"),
        ({"a\0b": 1}, "expected a step's name of 1 to 100 printable characters"),
    ],
)
def test_a_pipeline_that_makes_no_sense_is_refused_with_the_reason(weights: dict[str, float], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Steps(weights)


def test_a_step_that_was_not_declared_is_refused_with_those_that_were() -> None:
    with pytest.raises(ValueError, match='there is no step "lode"; the pipeline has: load, store'):
        Steps({"load": 1, "store": 2}).require("lode")


def test_steps_may_be_done_in_any_order_and_never_go_back() -> None:
    steps = Steps({"a": 1e308, "b": 1e308})

    told = [steps.at(*each).fraction for each in (("b", 1.0), ("a", 0.5), ("b", 0.0), ("a", 7.0))]

    assert told == [0.5, 0.75, 0.75, 1.0]
