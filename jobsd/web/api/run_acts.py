"""/api/v1/runs: what people do with runs, one by one and by filter, and the emergency stop."""

from aiohttp import web

from jobsd.domain.run import Act
from jobsd.operations import moves
from jobsd.operations.bulk import Bulk, Order, bulk
from jobsd.operations.emergency import EmergencyRequest, Stopped, emergency_stop
from jobsd.operations.moves import ChangeRequest, Deleted
from jobsd.operations.run_views import RunView
from jobsd.operations.told import Told
from jobsd.store.moves import Who
from jobsd.web.api.requests import BulkBody, ForceBody, Reasoned, run_of
from jobsd.web.auth import ACTOR
from jobsd.web.body import body_of, query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.etag import expected_version

MATCH = ("If-Match",)


@speaks(RunView, body=Reasoned, headers=MATCH, refuses=("E0502", "E0514"))
async def retry(request: web.Request) -> web.Response:
    """Queue a failed run again: a new attempt, the old ones stay. 409 for a run that has not failed."""
    deps, why = request.app[DEPS], await body_of(request, Reasoned)
    view = await moves.retry(deps.db, run_of(request), _who(request, why.reason))
    deps.wake()
    return answer(request, view)


@speaks(RunView, body=Reasoned, headers=MATCH, refuses=("E0502",))
async def cancel(request: web.Request) -> web.Response:
    """Cancel a queued run, or a failed one that nobody means to retry. 409 for any other."""
    deps, why = request.app[DEPS], await body_of(request, Reasoned)
    return answer(request, await moves.cancel(deps.db, run_of(request), _who(request, why.reason)))


@speaks(RunView, body=ChangeRequest, headers=MATCH, refuses=("E0502",))
async def change(request: web.Request) -> web.Response:
    """Reschedule or reprioritise a queued run. 409 for any other."""
    deps, asked = request.app[DEPS], await body_of(request, ChangeRequest)
    view = await moves.change(deps.db, run_of(request), asked, _who(request, asked.reason))
    deps.wake()
    return answer(request, view)


@speaks(Deleted, query=Reasoned, headers=MATCH, refuses=("E0502", "E0515"))
async def delete(request: web.Request) -> web.Response:
    """Delete a finished run: its attempts and audit entries stay. 409 for one that is not over, or kept for ever."""
    deps, why = request.app[DEPS], query_of(request, Reasoned)
    return answer(request, await moves.delete(deps.db, run_of(request), _who(request, why.reason)))


def _who(request: web.Request, reason: str | None) -> Who:
    """Who asks, why, and of which version of the run. Raises 412 for an `If-Match` that no run ever had."""
    return Who(request[ACTOR], reason, expected_version(request))


@speaks(RunView, 202, body=ForceBody, refuses=("E0502", "E0518"))
async def force_fail(request: web.Request) -> web.Response:
    """End a running run as failed. 202 with the run: its node ends the work now; 409 for an atomic one that lives."""
    deps, why = request.app[DEPS], await body_of(request, ForceBody)
    told = Told(deps.observe, deps.ended)
    view = await moves.force_fail(deps.db, deps.registry(), run_of(request), request[ACTOR], why.reason, told=told)
    return answer(request, view, 202)


@speaks(Bulk, body=BulkBody)
async def retry_all(request: web.Request) -> web.Response:
    """Retry the failed runs that a filter matches; with `dry_run` only count them."""
    return await _bulk(request, Act.RETRY)


@speaks(Bulk, body=BulkBody)
async def cancel_all(request: web.Request) -> web.Response:
    """Cancel the queued and failed runs that a filter matches; with `dry_run` only count them."""
    return await _bulk(request, Act.CANCEL)


@speaks(Bulk, body=BulkBody)
async def delete_all(request: web.Request) -> web.Response:
    """Delete the finished runs that a filter matches; with `dry_run` only count them."""
    return await _bulk(request, Act.DELETE)


async def _bulk(request: web.Request, act: Act) -> web.Response:
    deps, asked = request.app[DEPS], await body_of(request, BulkBody)
    order = Order(act, asked.filter.wanted(), Who(request[ACTOR], asked.reason), asked.dry_run)
    done = await bulk(deps.db, order)
    deps.wake()
    return answer(request, done)


@speaks(Stopped, 202, body=EmergencyRequest)
async def stop(request: web.Request) -> web.Response:
    """Fail every running run by force, on all nodes; switch all jobs off if asked. Atomic runs go on unless stale."""
    deps, asked = request.app[DEPS], await body_of(request, EmergencyRequest)
    told = Told(deps.observe, deps.ended)
    return answer(request, await emergency_stop(deps.db, deps.registry(), asked, request[ACTOR], told=told), 202)
