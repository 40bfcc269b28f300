"""/api/v1/alerts"""

from aiohttp import web
from pydantic import Field

from jobsd.operations import overview
from jobsd.operations.overview import AlertState, AlertView
from jobsd.operations.pages import Page
from jobsd.web.api.requests import PageQuery
from jobsd.web.body import query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS
from jobsd.web.links import paged


class AlertsQuery(PageQuery):
    """Which alerts."""

    state: AlertState | None = Field(None, description="absent: both")
    job: str | None = Field(None, max_length=200)
    type: str | None = Field(None, max_length=50, description='"JOB_FAILED"')


@speaks(Page[AlertView], query=AlertsQuery)
async def page(request: web.Request) -> web.Response:
    """Alerts, the latest first, and what their channels are still owed."""
    query = query_of(request, AlertsQuery)
    found = await overview.alerts(
        request.app[DEPS].db, query.limit, query.cursor, state=query.state, job=query.job, kind=query.type
    )
    return paged(request, found)
