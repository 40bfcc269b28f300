"""/api/v1/nodes"""

from aiohttp import web
from pydantic import Field

from jobsd.operations import overview
from jobsd.operations.overview import NodeState, NodeView
from jobsd.operations.pages import Page
from jobsd.web.api.requests import PageQuery
from jobsd.web.body import query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS
from jobsd.web.links import paged


class NodesQuery(PageQuery):
    """Which nodes."""

    state: NodeState | None = Field(None, description="absent: all that there ever were")


@speaks(Page[NodeView], query=NodesQuery)
async def page(request: web.Request) -> web.Response:
    """Every start of a daemon, the latest first, and why a dead one counts as dead."""
    query = query_of(request, NodesQuery)
    return paged(request, await overview.nodes(request.app[DEPS].db, query.limit, query.cursor, state=query.state))
