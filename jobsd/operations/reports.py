"""What a program says of the attempt that it executes: that it lives, how far it is, what happens. All of it fenced.

For work outside the daemon: external jobs, and the commands and HTTP requests that jobsd starts, which are given their
fence. A handler has its context for that.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from jobsd.domain.errors import Exit, JobsdError, Place, Problem, problem
from jobsd.domain.job import JobDefinition
from jobsd.domain.pipeline import MOST_STEPS, Steps, fraction_of
from jobsd.domain.run import Fence, RunId
from jobsd.operations.external import Desk, Fenced, moved_on
from jobsd.operations.run_views import ProgressView
from jobsd.operations.runs import no_such_run
from jobsd.operations.runs import progress as shown
from jobsd.store import external
from jobsd.store import reports as store

OUTSIDE = frozenset({"external", "command", "http"})
MOST_MESSAGES = 10_000  # of one attempt
LONGEST = 10_000  # characters of a message or a note

Fraction = Annotated[float, Field(ge=0, le=1)]
StepName = Annotated[str, Field(strict=True, min_length=1, max_length=100)]
Weight = Annotated[float, Field(gt=0, le=1_000_000)]


class HeartbeatRequest(Fenced):
    """It lives."""


class ProgressRequest(Fenced):
    """How far it is: as a whole, or in one step of a pipeline whose steps are declared once."""

    progress: Fraction | None = Field(None, description="0 to 1: of the step if one is named, else of the whole")
    note: Annotated[str, Field(strict=True, max_length=LONGEST)] = Field("", description="what it is doing")
    step: StepName | None = Field(None, description="the step that it is in")
    steps: dict[StepName, Weight] | None = Field(
        None, min_length=1, max_length=MOST_STEPS, description="declares the pipeline: names and weights, in order"
    )

    @model_validator(mode="after")
    def _says_something(self) -> "ProgressRequest":
        if self.progress is None and self.steps is None and self.step is None:
            raise ValueError("expected progress, step or steps")
        return self


class MessageRequest(Fenced):
    """What happens, for people to read."""

    text: Annotated[str, Field(strict=True, min_length=1, max_length=LONGEST)]
    level: Literal["info", "warning", "error"] = "info"


async def heartbeat(desk: Desk, run_id: RunId, fence: Fence) -> ProgressView:
    """Note that it lives. Raises E0503, E0519, E0517."""
    await _reporting(desk, run_id)
    if not await store.heartbeat(desk.db, run_id, fence):
        raise await moved_on(desk.db, run_id, fence)
    return await shown(desk.db, run_id)


async def progress(desk: Desk, run_id: RunId, fence: Fence, request: ProgressRequest) -> ProgressView:
    """Note how far it is. Raises E0503, E0519, E0516 (its job shows none), E0507 (no such step), E0517."""
    job = await _reporting(desk, run_id)
    if job is not None and not job.shows_progress:
        why = "it is atomic" if job.atomic else "its definition says progress = false"
        hint = "a heartbeat is always taken"
        raise problem("E0516", f"{job.name} shows no progress: {why}", hint, exit_code=Exit.CONFLICT)
    steps = list(request.steps.items()) if request.steps else await store.steps(desk.db, run_id, fence)
    fraction = _whole(request, steps)
    told = await store.progress(desk.db, run_id, fence, fraction, request.note, step=request.step, steps=steps)
    if not told:
        raise await moved_on(desk.db, run_id, fence)
    return await shown(desk.db, run_id)


def _whole(request: ProgressRequest, steps: Steps | None) -> float:
    if request.step is None:
        return request.progress or 0.0
    try:
        return fraction_of(steps or (), request.step, request.progress or 0.0)
    except ValueError as error:
        raise JobsdError((Problem("E0507", f"step: {error}", Place("#/step")),), Exit.USAGE) from None


async def message(desk: Desk, run_id: RunId, fence: Fence, request: MessageRequest) -> ProgressView:
    """Keep a message. Raises E0503, E0519, E0507 (the attempt has told too many), E0517."""
    await _reporting(desk, run_id)
    if await store.told(desk.db, run_id, fence, MOST_MESSAGES) >= MOST_MESSAGES:
        text = f"this attempt has told {MOST_MESSAGES} messages; no more are kept"
        raise problem("E0507", text, "tell progress instead", exit_code=Exit.CONFLICT)
    if not await store.message(desk.db, run_id, fence, request.level, request.text):
        raise await moved_on(desk.db, run_id, fence)
    return await shown(desk.db, run_id)


async def _reporting(desk: Desk, run_id: RunId) -> JobDefinition | None:
    """The job of a run whose work is done outside the daemon; None if it has left the registry. Raises E0503, E0519."""
    if (row := await external.find(desk.db, run_id)) is None:
        raise no_such_run(run_id)
    job = desk.registry.jobs.get(row["job"])
    if not row["external"] and (job is None or job.kind not in OUTSIDE):
        text = f"run {run_id} of {row['job']} is executed by jobsd itself: nobody else reports for it"
        raise problem("E0519", text, "its handler reports through its context", exit_code=Exit.CONFLICT)
    return job
