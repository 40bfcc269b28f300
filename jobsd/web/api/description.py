"""/api/openapi.json: the API, told in a form that tools read."""

import asyncio

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
    open_reading = is_loopback(request.app[DEPS].host)
    body = await asyncio.to_thread(rendered, request.app[ROUTED], open_reading)  # the first time it takes a while
    return tagged(request, body)
