"""/api/openapi.json: the API, told in a form that tools read."""

from aiohttp import web

from jobsd.web.api.requests import Query
from jobsd.web.body import query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, tagged
from jobsd.web.openapi import Routed, rendered
from jobsd.web.peers import is_loopback

ROUTED = web.AppKey("routed", tuple[Routed, ...])


@speaks("application/json")
async def openapi(request: web.Request) -> web.Response:
    """Every address, what it takes and what it answers: OpenAPI 3.1."""
    query_of(request, Query)
    body = rendered(request.app[ROUTED], is_loopback(request.app[DEPS].host))
    return tagged(request, body)
