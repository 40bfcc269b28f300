"""/api/v1/events and /api/v1/runs/{run}/events: what happens, as it happens."""

import asyncio
from typing import Any

from aiohttp import web
from pydantic import Field

from jobsd.domain.errors import Place, Problem
from jobsd.domain.events import Noted
from jobsd.operations.feed import Feed, Follower, TooSlow
from jobsd.operations.news import Told, Wanted
from jobsd.store.feed import Position
from jobsd.web.api.requests import REPEATED, Narrowed, Query, run_of
from jobsd.web.body import query_of
from jobsd.web.contract import EVENTS, speaks
from jobsd.web.deps import DEPS, DEPTH
from jobsd.web.errors import Refused
from jobsd.web.stream import HEADERS, HEARTBEAT_S, EventStream

FEED = web.AppKey("feed", Feed)
CHECK_S = 0.25  # how soon the end of a client is noticed to which nothing is said
LAST = "Last-Event-ID"
AFTER = Field(None, max_length=8000, description=f"an id of a stream; the header {LAST} says the same")


class EventsQuery(Narrowed):
    """Which runs are followed, and from where."""

    after: str | None = AFTER


class RunEventsQuery(Query):
    """From where one run is followed."""

    after: str | None = AFTER


@speaks(EVENTS, query=EventsQuery, headers=(LAST,), refuses=("E0508", "E0528"))
async def of_runs(request: web.Request) -> web.StreamResponse:
    """A list of runs, followed: `run` as it is after each move, `gone` when it left the list, `progress`, `reset`."""
    query = query_of(request, EventsQuery, repeated=REPEATED)
    wanted = Wanted(job=query.job, states=frozenset(query.state), tags=query.tags)
    return await _streamed(request, wanted, query.after)


@speaks(EVENTS, query=RunEventsQuery, headers=(LAST,), refuses=("E0508", "E0528"))
async def of_run(request: web.Request) -> web.StreamResponse:
    """One run, followed from its beginning: `move`, `message`, `progress`, and `run` as it is after its moves."""
    query = query_of(request, RunEventsQuery)
    return await _streamed(request, Wanted(run=run_of(request)), query.after)


async def _streamed(request: web.Request, wanted: Wanted, after: str | None) -> web.StreamResponse:
    """Until the client leaves, or the daemon. A client that does not keep up is let go: it comes back with its id."""
    position = _position(request.headers.get(LAST) or after)
    async with request.app[FEED].follow(wanted, position) as follower:
        if request.method == "HEAD":
            return web.Response(headers=HEADERS)
        stream = EventStream(request, request.app[DEPS].patience.answer_s)
        await stream.open()
        try:
            await _told(request, stream, follower)
        except TooSlow:
            request.app[DEPS].observe(Noted("client_too_slow", "info", {"path": request.path}))
        except ConnectionError:
            pass  # the client has gone, as clients do
        return stream.response


async def _told(request: web.Request, stream: EventStream, follower: Follower) -> None:
    """The first batch tells the client where it is, and so does every heartbeat, though nothing has happened."""
    loop = asyncio.get_running_loop()
    beats_at = 0.0
    while (batch := await follower.batch(CHECK_S)) is not None and request.transport is not None:
        if batch.events or loop.time() >= beats_at:
            await stream.send([_plain(request, event) for event in batch.events], str(batch.position))
            beats_at = loop.time() + HEARTBEAT_S


def _plain(request: web.Request, event: Told) -> tuple[str, dict[str, Any]]:
    """The event's name and what it tells, without secrets."""
    return event.name, request.app[DEPS].redactor.fields(event.view.model_dump(mode="json"), DEPTH)


def _position(text: str | None) -> Position | None:
    """Raises `Refused` (422) for what is no id of a stream."""
    try:
        return Position.parse(text) if text else None
    except ValueError as error:
        raise Refused(422, Problem("E0507", f"{LAST}: {error}", Place("#/after"))) from None
