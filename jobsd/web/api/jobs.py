"""/api/v1/jobs"""

from aiohttp import web

from jobsd.operations import enqueue, jobs
from jobsd.operations.backfill import Backfilled, BackfillRequest, backfill
from jobsd.operations.enqueue import Made, trigger_many
from jobsd.operations.external import start_new
from jobsd.operations.job_views import JobSummary, JobView, NextSlots, SlotView, Why
from jobsd.operations.pages import Page
from jobsd.operations.run_requests import TriggerRequest
from jobsd.operations.why import why
from jobsd.web.api.external import desk_of
from jobsd.web.api.keys import key_of, keyed, keyed_runs
from jobsd.web.api.requests import DisableBody, NextQuery, PageQuery, Query, Reasoned
from jobsd.web.auth import ACTOR
from jobsd.web.body import body_of, query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
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


REFUSES = ("E0502", "E0504", "E0507", "E0514", "E0519", "E0520", "E0525", "E0527")  # most of them of `start` alone


@speaks(Made, 201, 200, body=TriggerRequest, headers=("Idempotency-Key",), refuses=REFUSES)
async def trigger(request: web.Request) -> web.Response:
    """Ask for a run, or for many. 201 with what was made; 200 when idempotency keys had made all of it before."""
    deps, asked = request.app[DEPS], await body_of(request, TriggerRequest)
    name, key = request.match_info["job"], key_of(request)
    if asked.runs is not None:
        wanted = keyed_runs(asked.runs, key)
        many = await trigger_many(deps.db, deps.registry(), name, wanted, actor=request[ACTOR], reason=asked.reason)
        deps.wake()
        return answer(request, many, 201 if many.created else 200)
    one = keyed(asked, key)
    if one.start:
        run = await start_new(desk_of(request), name, one)
    else:
        run = await enqueue.trigger(deps.db, deps.registry(), name, one, request[ACTOR])
        deps.wake()
    return answer(request, run, 201 if run.created else 200, {"Location": f"/api/v1/runs/{run.id}"})


@speaks(JobSummary, body=Reasoned)
async def enable(request: web.Request) -> web.Response:
    """Let it run again: its slots from now on, and what is queued."""
    return await _switch(request, await body_of(request, Reasoned), enabled=True)


@speaks(JobSummary, body=DisableBody)
async def disable(request: web.Request) -> web.Response:
    """Run none of its slots and take none of its queued runs until it is enabled. What runs goes on."""
    return await _switch(request, await body_of(request, DisableBody), enabled=False)


async def _switch(request: web.Request, why_: Reasoned | DisableBody, *, enabled: bool) -> web.Response:
    deps = request.app[DEPS]
    job = await jobs.switch(
        deps.db,
        deps.registry(),
        request.match_info["job"],
        enabled=enabled,
        actor=request[ACTOR],
        reason=why_.reason,
        lasts=why_.lasts if isinstance(why_, DisableBody) else None,
    )
    deps.wake()
    return answer(request, job)


@speaks(Backfilled, 201, 200, body=BackfillRequest, refuses=("E0519", "E0514"))
async def fill(request: web.Request) -> web.Response:
    """Queue a run for each slot of a stretch of the past that never ran. 201 when there were any."""
    deps, asked = request.app[DEPS], await body_of(request, BackfillRequest)
    found = await backfill(deps.db, deps.registry(), request.match_info["job"], asked, request[ACTOR])
    deps.wake()
    return answer(request, found, 201 if found.made else 200)
