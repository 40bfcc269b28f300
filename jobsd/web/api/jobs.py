"""/api/v1/jobs"""

from aiohttp import web

from jobsd.domain.errors import Problem
from jobsd.operations import jobs, runs
from jobsd.operations.job_views import JobSummary, JobView, NextSlots, SlotView, Why
from jobsd.operations.pages import Page
from jobsd.operations.run_views import Triggered
from jobsd.operations.runs import TriggerRequest
from jobsd.operations.why import why
from jobsd.web.api.requests import NextQuery, PageQuery, Query, Reasoned
from jobsd.web.auth import ACTOR
from jobsd.web.body import body_of, checked, query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.errors import Refused
from jobsd.web.links import paged


@speaks(Page[JobSummary], query=PageQuery)
async def page(request: web.Request) -> web.Response:
    """Jobs in the order of their names, with their last run and next slot."""
    deps, query = request.app[DEPS], query_of(request, PageQuery)
    return paged(request, await jobs.page(deps.db, deps.registry(), query.limit, query.cursor))


@speaks(JobView)
async def show(request: web.Request) -> web.Response:
    """One job: definition, schedule in plain English, latest runs, next slots, runbook."""
    deps, _ = request.app[DEPS], query_of(request, Query)
    return answer(request, await jobs.show(deps.db, deps.registry(), request.match_info["job"]))


@speaks(NextSlots, query=NextQuery)
async def next_slots(request: web.Request) -> web.Response:
    """The slots to come."""
    deps, query = request.app[DEPS], query_of(request, NextQuery)
    return answer(request, await jobs.next_slots(deps.db, deps.registry(), request.match_info["job"], query.count))


@speaks(Why)
async def why_not(request: web.Request) -> web.Response:
    """Why it is not running now."""
    deps, _ = request.app[DEPS], query_of(request, Query)
    return answer(request, await why(deps.db, deps.registry(), request.match_info["job"]))


@speaks(Page[SlotView], query=PageQuery)
async def slots(request: web.Request) -> web.Response:
    """The ledger: what became of its slots, the latest first."""
    deps, query = request.app[DEPS], query_of(request, PageQuery)
    found = await jobs.slots(deps.db, deps.registry(), request.match_info["job"], query.limit, query.cursor)
    return paged(request, found)


@speaks(Triggered, 201, 200, body=TriggerRequest, headers=("Idempotency-Key",), refuses=("E0504",))
async def trigger(request: web.Request) -> web.Response:
    """Ask for a run. 201 with the run; 200 when its idempotency key had made it before."""
    deps = request.app[DEPS]
    asked = _keyed(request, await body_of(request, TriggerRequest))
    run = await runs.trigger(deps.db, deps.registry(), request.match_info["job"], asked, request[ACTOR])
    deps.wake()
    return answer(request, run, 201 if run.created else 200, {"Location": f"/api/v1/runs/{run.id}"})


def _keyed(request: web.Request, asked: TriggerRequest) -> TriggerRequest:
    """The header `Idempotency-Key` is the body's `key`."""
    key = request.headers.get("Idempotency-Key")
    if key is None or key == asked.key:
        return asked
    if asked.key is not None:
        raise Refused(422, Problem("E0507", "key: the header Idempotency-Key says otherwise"))
    return checked(TriggerRequest, {**asked.model_dump(), "key": key})


@speaks(JobSummary, body=Reasoned)
async def enable(request: web.Request) -> web.Response:
    """Let it run again: its slots from now on, and what is queued."""
    return await _switch(request, enabled=True)


@speaks(JobSummary, body=Reasoned)
async def disable(request: web.Request) -> web.Response:
    """Run none of its slots and take none of its queued runs until it is enabled. What runs goes on."""
    return await _switch(request, enabled=False)


async def _switch(request: web.Request, *, enabled: bool) -> web.Response:
    deps, why_ = request.app[DEPS], await body_of(request, Reasoned)
    job = await jobs.switch(
        deps.db,
        deps.registry(),
        request.match_info["job"],
        enabled=enabled,
        actor=request[ACTOR],
        reason=why_.reason,
    )
    deps.wake()
    return answer(request, job)
