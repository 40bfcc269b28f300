"""/api/v1/packs"""

from aiohttp import web
from pydantic import ConfigDict, Field

from jobsd.domain.scope import Scope
from jobsd.operations import packs
from jobsd.operations.pack_views import Acted, PackView, Rows
from jobsd.operations.packs import ActRequest
from jobsd.operations.pages import Page
from jobsd.web.api.requests import PageQuery, Query
from jobsd.web.auth import ACTOR, require
from jobsd.web.body import body_of, query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.links import paged


class ViewQuery(PageQuery):
    """One page of a view; whatever else stands there is a value of one of its filters."""

    model_config = ConfigDict(frozen=True, extra="allow")

    cursor: str | None = Field(None, max_length=6000)  # it holds the key of a row, whatever that is made of


@speaks(Page[PackView], query=Query)
async def listing(request: web.Request) -> web.Response:
    """The packs that are installed, with their views and actions."""
    query_of(request, Query)
    return answer(request, packs.listing(request.app[DEPS].packs()))


@speaks(Rows, query=ViewQuery, refuses=("E0521",))
async def view(request: web.Request) -> web.Response:
    """One page of a pack's view: rows, how to show them, and the actions that fit them."""
    deps, query = request.app[DEPS], query_of(request, ViewQuery)
    found = packs.view_of(deps.packs(), request.match_info["pack"], request.match_info["view"])
    return paged(request, await packs.rows(deps.db, found, query.model_extra or {}, query.limit, query.cursor))


@speaks(Acted, body=ActRequest, refuses=("E0504", "E0521", "E0522"))
async def act(request: web.Request) -> web.Response:
    """Do what a pack offers, all or nothing, audited. 409 when its own rule does not allow it."""
    deps, pack = request.app[DEPS], request.match_info["pack"]
    action = packs.action_of(deps.packs(), pack, request.match_info["action"])
    require(request, Scope(action.scope))
    asked = await body_of(request, ActRequest)
    return answer(request, await packs.act(deps.db, pack, action, asked, request[ACTOR]))
