"""/api/v1/tokens"""

import orjson
from aiohttp import web

from jobsd.operations import tokens
from jobsd.operations.pages import Page
from jobsd.operations.tokens import NewToken, TokenRequest, TokenView
from jobsd.web.api.requests import PageQuery, Reasoned
from jobsd.web.auth import ACTOR
from jobsd.web.body import body_of, query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.links import paged


@speaks(Page[TokenView], query=PageQuery)
async def page(request: web.Request) -> web.Response:
    """Tokens in the order of their names, revoked ones too; never their secrets."""
    query = query_of(request, PageQuery)
    return paged(request, await tokens.page(request.app[DEPS].db, query.limit, query.cursor))


@speaks(NewToken, 201, body=TokenRequest, refuses=("E0526",))
async def create(request: web.Request) -> web.Response:
    """Make a token. Its secret is in this answer and nowhere else."""
    asked = await body_of(request, TokenRequest)
    made = await tokens.create(request.app[DEPS].db, asked, request[ACTOR])
    body = orjson.dumps(made.model_dump(mode="json"))  # not through `answer`, which masks secrets
    return web.Response(status=201, body=body, content_type="application/json")


@speaks(TokenView, query=Reasoned, refuses=("E0523",))
async def revoke(request: web.Request) -> web.Response:
    """End a token at once. It stays in the list, since the audit names it."""
    why, name = query_of(request, Reasoned), request.match_info["token"]
    return answer(request, await tokens.revoke(request.app[DEPS].db, name, request[ACTOR], why.reason))
