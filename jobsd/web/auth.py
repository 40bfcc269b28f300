"""Who asks, and whether they may: the peer's user on the Unix socket, a token's holder over TCP.

Over the socket its group decides who may, and whoever may open it may do everything. Over TCP every change needs a
token whose scope reaches it; reading needs one too unless only this machine can be asking. A token that is shown
counts on either, so that a proxy in front of the socket does not lend out its own rights.
A browser is kept out by its own honesty: a foreign `Host` means a name that was rebound to us, an `Origin` on a
change means a page that is not ours.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aiohttp import web
from aiohttp.web_urldispatcher import AbstractRoute

from jobsd.domain.events import Noted
from jobsd.domain.scope import Scope
from jobsd.operations import tokens
from jobsd.web.deps import DEPS
from jobsd.web.errors import Refused, refused
from jobsd.web.limits import LIMITS, QUOTA, Quota
from jobsd.web.patience import Handler
from jobsd.web.peers import is_local, neighbourhood, own_host, unix_peer, user_name

READING = frozenset({"GET", "HEAD"})
ACTOR = web.RequestKey("actor", str)
SCOPES = web.AppKey("scopes", Mapping[AbstractRoute, Scope | None])  # of each route; None: open to everybody
CHALLENGE = 'Bearer realm="jobsd"'


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the audit calls them, and how far they reach; None: nowhere without a token."""

    actor: str
    scope: Scope | None


CALLER = web.RequestKey("caller", Caller)


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through with its actor, or raise `Refused`: 401, 403, 421, 429."""
    uid = unix_peer(request)
    if uid is None:
        own_host(request)
    if request.method not in READING and "Origin" in request.headers:
        raise refused(403, "E0510", f"a change with an Origin ({request.headers['Origin'][:200]}) is not taken")
    needed = request.app[SCOPES].get(request.match_info.route, Scope.READ)  # what is not there changes nothing
    caller = await _caller(request, uid) if needed is not None else _anybody(request, uid)
    if needed is not None and (caller.scope is None or not caller.scope.reaches(needed)):
        raise _not_far_enough(request, caller, needed)
    request[ACTOR], request[CALLER] = caller.actor, caller
    return await handler(request)


def require(request: web.Request, needed: Scope) -> None:
    """Raises 403 or 401 unless the caller reaches `needed`: for what takes more than its route does."""
    caller = request[CALLER]
    if caller.scope is None or not caller.scope.reaches(needed):
        raise _not_far_enough(request, caller, needed)


async def _caller(request: web.Request, uid: int | None) -> Caller:
    token = _token(request)
    if token is not None:
        return await _holder(request, token)
    return _anybody(request, uid)


def _anybody(request: web.Request, uid: int | None) -> Caller:
    """Who asks without a token."""
    if uid is not None:
        return Caller(f"unix:{user_name(uid)}", Scope.ADMIN)
    peer = neighbourhood(request)
    _count(request, peer, peer)
    return Caller("tcp", Scope.READ if is_local(request) else None)


def _token(request: web.Request) -> str | None:
    """What `Authorization` shows. Raises 401 for anything but one bearer token."""
    given = request.headers.getall("Authorization", [])
    if not given:
        return None
    kind, _, token = given[0].partition(" ")
    if len(given) > 1 or kind.lower() != "bearer" or not token.strip():
        raise _unauthorized("E0402", "expected Authorization: Bearer TOKEN, once", CHALLENGE)
    return token.strip()


async def _holder(request: web.Request, token: str) -> Caller:
    """The holder of a token; one that is no good counts against where it came from."""
    limits, peer, digest = request.app[LIMITS], neighbourhood(request), tokens.hashed(token)
    if (quota := limits.held_up(peer, digest)) is not None:
        raise _too_many("too many tokens that are no good", quota)
    _count(request, digest, "this token")
    found = await tokens.holder(request.app[DEPS].db, token)
    if found is None:
        limits.was_bad(peer, digest)
        request.app[DEPS].observe(Noted("token_refused", "warning", {"peer": peer, "path": request.path}))
        hint = "make another: jobsd token create NAME --scope read"
        challenge = f'{CHALLENGE}, error="invalid_token"'
        raise _unauthorized("E0410", "the token is not known, has expired or was revoked", challenge, hint)
    limits.was_good(digest)
    return Caller(f"token:{found.name}", found.scope)


def _count(request: web.Request, key: str | bytes, who: str) -> None:
    buckets = request.app[LIMITS].requests
    quota = request[QUOTA] = buckets.take(key)
    if not quota.granted:
        raise _too_many(f"more than {buckets.per_s:g} requests a second from {who}", quota)


def _too_many(message: str, quota: Quota) -> Refused:
    return refused(429, "E0412", message, headers={"Retry-After": str(max(1, math.ceil(quota.next_s)))})


def _not_far_enough(request: web.Request, caller: Caller, needed: Scope) -> Refused:
    if caller.actor.startswith("token:"):
        return refused(
            403,
            "E0411",
            f"{caller.actor} may {caller.scope}; this takes {needed}",
            f"make one that may: jobsd token create NAME --scope {needed}",
            headers={"WWW-Authenticate": f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'},
        )
    host = request.headers.get("Host", "this listener")[:200]
    why = "" if needed is Scope.READ else " for a change"
    hints = (
        "export JOBSD_TOKEN=…, or run it on that host through the Unix socket",
        "make one: jobsd token create NAME",
    )
    return _unauthorized("E0402", f"no token: {host} requires one{why}", CHALLENGE, *hints)


def _unauthorized(code: str, message: str, challenge: str, *hints: str) -> Refused:
    return refused(401, code, message, *hints, headers={"WWW-Authenticate": challenge})
