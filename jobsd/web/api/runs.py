"""/api/v1/runs"""

from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel

from jobsd.operations import runs
from jobsd.operations.pages import Page
from jobsd.operations.run_views import AttemptView, AuditView, MessageView, ProgressView, RunSummary, RunView
from jobsd.operations.runs import Wanted
from jobsd.web.api.requests import REPEATED, MessagesQuery, Query, RunsQuery, run_of
from jobsd.web.body import query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.links import paged

View = TypeVar("View", bound=BaseModel)


@speaks(Page[RunSummary], query=RunsQuery)
async def page(request: web.Request) -> web.Response:
    """Runs, the latest first; with `total=true` also how many, as `X-Total`: "42", or "10,000+"."""
    query = query_of(request, RunsQuery, repeated=REPEATED)
    db, wanted = request.app[DEPS].db, Wanted(states=query.state, job=query.job, since=query.since, tags=query.tags)
    found = await runs.page(db, query.limit, query.cursor, **wanted)
    return paged(request, found, await runs.total(db, **wanted) if query.total == "true" else None)


@speaks(RunView)
async def show(request: web.Request) -> web.Response:
    """One run, whole."""
    query_of(request, Query)
    return answer(request, await runs.show(request.app[DEPS].db, run_of(request)))


@speaks(Page[AttemptView])
async def attempts(request: web.Request) -> web.Response:
    """Its attempts that are over, errors word for word."""
    query_of(request, Query)
    return _all(request, await runs.attempts(request.app[DEPS].db, run_of(request)))


@speaks(Page[AuditView])
async def audit(request: web.Request) -> web.Response:
    """Every act on it, of machine and person."""
    query_of(request, Query)
    return _all(request, await runs.audit(request.app[DEPS].db, run_of(request)))


@speaks(Page[MessageView], query=MessagesQuery)
async def messages(request: web.Request) -> web.Response:
    """What it said, the oldest first."""
    query = query_of(request, MessagesQuery)
    found = await runs.messages(request.app[DEPS].db, run_of(request), query.after, query.limit)
    return answer(request, found)


@speaks(ProgressView)
async def progress(request: web.Request) -> web.Response:
    """How far it is, and how long it still takes if it goes on like this."""
    query_of(request, Query)
    return answer(request, await runs.progress(request.app[DEPS].db, run_of(request)))


def _all(request: web.Request, items: list[View]) -> web.Response:
    return answer(request, Page(items=items))
