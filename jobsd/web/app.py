"""The web application: every route in one table, every request through the same three layers."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from aiohttp import web

from jobsd.domain.errors import JobsdError, problem
from jobsd.domain.events import Noted
from jobsd.domain.scope import Scope
from jobsd.operations.feed import Feed
from jobsd.store.db import Unavailable
from jobsd.web import auth, patience, probes
from jobsd.web.api import (
    alerts,
    audit,
    daemon,
    description,
    events,
    external,
    jobs,
    nodes,
    packs,
    run_acts,
    runs,
    stats,
    tokens,
)
from jobsd.web.deps import DEPS, Deps
from jobsd.web.errors import Refused, answer_to, refused
from jobsd.web.headers import HEADERS
from jobsd.web.limits import LIMITS, QUOTA, Limits

Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One address, and the least scope that it takes. What it is for is its handler's docstring."""

    method: str
    path: str
    handle: Handle
    scope: str = "read"  # or trigger, operate, admin: each may do what those before it may; open: no token at all


# Each handler says with @contract.speaks(ANSWER, STATUS…, query=, body=, headers=, refuses=) what it takes and answers:
# /api/openapi.json is made of that, and a test finds the handler that does not.
ROUTES = (
    Route("GET", "/livez", probes.live, "open"),
    Route("GET", "/readyz", probes.ready, "open"),
    Route("GET", "/healthz", probes.healthy),
    Route("GET", "/metrics", probes.metrics),
    Route("GET", "/api/openapi.json", description.openapi),
    Route("GET", "/api/v1/status", daemon.status),
    Route("GET", "/api/v1/health", probes.healthy),
    Route("POST", "/api/v1/reload", daemon.reload, "admin"),
    Route("GET", "/api/v1/jobs", jobs.page),
    Route("GET", "/api/v1/jobs/{job}", jobs.show),
    Route("GET", "/api/v1/jobs/{job}/next", jobs.next_slots),
    Route("GET", "/api/v1/jobs/{job}/why", jobs.why_not),
    Route("GET", "/api/v1/jobs/{job}/slots", jobs.slots),
    Route("GET", "/api/v1/jobs/{job}/stats", stats.of_job),
    Route("POST", "/api/v1/jobs/{job}/runs", jobs.trigger, "trigger"),
    Route("POST", "/api/v1/jobs/{job}/enable", jobs.enable, "operate"),
    Route("POST", "/api/v1/jobs/{job}/disable", jobs.disable, "operate"),
    Route("POST", "/api/v1/jobs/{job}/backfill", jobs.fill, "operate"),
    Route("GET", "/api/v1/audit", audit.page),
    Route("GET", "/api/v1/audit/verify", audit.verify),
    Route("GET", "/api/v1/audit/export", audit.export),
    Route("GET", "/api/v1/runs", runs.page),
    Route("POST", "/api/v1/runs/retry", run_acts.retry_all, "operate"),
    Route("POST", "/api/v1/runs/cancel", run_acts.cancel_all, "operate"),
    Route("POST", "/api/v1/runs/delete", run_acts.delete_all, "operate"),
    Route("GET", "/api/v1/runs/{run}", runs.show),
    Route("PATCH", "/api/v1/runs/{run}", run_acts.change, "operate"),
    Route("DELETE", "/api/v1/runs/{run}", run_acts.delete, "operate"),
    Route("POST", "/api/v1/runs/{run}/retry", run_acts.retry, "operate"),
    Route("POST", "/api/v1/runs/{run}/cancel", run_acts.cancel, "operate"),
    Route("POST", "/api/v1/runs/{run}/force-fail", run_acts.force_fail, "operate"),
    Route("POST", "/api/v1/runs/{run}/start", external.start, "trigger"),
    Route("POST", "/api/v1/runs/{run}/heartbeat", external.heartbeat, "trigger"),
    Route("POST", "/api/v1/runs/{run}/progress", external.progress, "trigger"),
    Route("POST", "/api/v1/runs/{run}/messages", external.message, "trigger"),
    Route("POST", "/api/v1/runs/{run}/complete", external.complete, "trigger"),
    Route("POST", "/api/v1/runs/{run}/fail", external.fail, "trigger"),
    Route("POST", "/api/v1/emergency-stop", run_acts.stop, "admin"),
    Route("GET", "/api/v1/runs/{run}/attempts", runs.attempts),
    Route("GET", "/api/v1/runs/{run}/audit", runs.audit),
    Route("GET", "/api/v1/runs/{run}/messages", runs.messages),
    Route("GET", "/api/v1/runs/{run}/progress", runs.progress),
    Route("GET", "/api/v1/runs/{run}/events", events.of_run),
    Route("GET", "/api/v1/events", events.of_runs),
    Route("GET", "/api/v1/nodes", nodes.page),
    Route("GET", "/api/v1/alerts", alerts.page),
    Route("GET", "/api/v1/packs", packs.listing),
    Route("GET", "/api/v1/packs/{pack}/{view}", packs.view),
    Route("POST", "/api/v1/packs/{pack}/{action}", packs.act, "trigger"),
    Route("GET", "/api/v1/tokens", tokens.page, "admin"),
    Route("POST", "/api/v1/tokens", tokens.create, "admin"),
    Route("DELETE", "/api/v1/tokens/{token}", tokens.revoke, "admin"),
)

AN_ID = "{run:(?!(?:retry|cancel|delete)$)[^/]+}"  # beside it there are addresses for many runs at once


def build(deps: Deps) -> web.Application:
    """The application, to be served by `listen.listening`."""
    app = web.Application(middlewares=[delivered, told, auth.guarded], client_max_size=deps.patience.body_bytes)
    app[DEPS] = deps
    app[patience.PATIENCE] = deps.patience
    app[LIMITS] = Limits(deps.rate)
    app[description.ROUTED] = ROUTES
    feed = app[events.FEED] = Feed(deps.db, deps.observe)
    app.on_shutdown.append(lambda _: feed.close())
    app.on_response_prepare.append(_headed)
    scopes = app[auth.SCOPES] = {}
    for route in ROUTES:
        scope = None if route.scope == "open" else Scope(route.scope)
        for method in ("GET", "HEAD") if route.method == "GET" else (route.method,):
            scopes[app.router.add_route(method, route.path.replace("{run}", AN_ID), route.handle)] = scope
    return app


async def _headed(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(HEADERS)
    if (quota := request.get(QUOTA)) is not None:
        response.headers.update(quota.headers)


@web.middleware
async def delivered(request: web.Request, handler: patience.Handler) -> web.StreamResponse:
    """Send the answer here, with a limit: aiohttp would wait for ever on a client that does not read."""
    response, deps = await handler(request), request.app[DEPS]
    if not await patience.sent(request, response, deps.patience.answer_s):
        deps.observe(Noted("client_too_slow", "info", {"path": request.path}))
    return response


@web.middleware
async def told(request: web.Request, handler: patience.Handler) -> web.StreamResponse:
    """Turn whatever is raised into a problem document; what nobody foresaw goes to the log, not to the client."""
    deps = request.app[DEPS]
    try:
        return await handler(request)
    except JobsdError as error:
        return answer_to(error, request.path, deps.redactor)
    except Unavailable as error:
        deps.observe(Noted("database_unavailable", "warning", {"path": request.path, "error": str(error)}))
        refusal = problem("E0511", f"the database cannot be asked just now: {error}", "try again")
        return answer_to(refusal, request.path, deps.redactor)
    except web.HTTPException as error:
        return answer_to(_of_aiohttp(request, error), request.path, deps.redactor)
    except ConnectionError:
        raise
    except Exception as error:
        deps.observe(Noted("request_failed", "error", _facts(request, error)))
        ours = problem("E0512", "the daemon made a mistake; its log has it under request_failed")
        return answer_to(ours, request.path, deps.redactor)


def _of_aiohttp(request: web.Request, error: web.HTTPException) -> Refused:
    """Refusals of the router and the parser, in our words."""
    if isinstance(error, web.HTTPNotFound):
        return refused(404, "E0509", f"there is nothing at {request.path[:200]}", "GET /api/v1/jobs")
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return refused(
            405, "E0507", f"{request.path} takes {allowed}, not {request.method}", headers={"Allow": allowed}
        )
    return refused(error.status, "E0507", HTTPStatus(error.status).phrase.lower())


def _facts(request: web.Request, error: Exception) -> dict[str, object]:
    where = error.__traceback__
    while where is not None and where.tb_next is not None:
        where = where.tb_next
    at = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where is not None else ""
    return {
        "method": request.method,
        "path": request.path,
        "error": f"{type(error).__name__}: {error}",
        "at": at,
    }
