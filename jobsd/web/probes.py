"""Probes for supervisors and monitoring. Not logged, and answered while everything else is in trouble."""

from aiohttp import web

from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.health import Alive, Health, Readiness, health, readiness
from jobsd.web.vitals import asked


@speaks(Alive)
async def live(request: web.Request) -> web.Response:
    """200 as long as the event loop answers."""
    return answer(request, Alive())


@speaks(Readiness, 200, 503)
async def ready(request: web.Request) -> web.Response:
    """200 while work gets done, else 503; each check by itself."""
    deps = request.app[DEPS]
    found = readiness(deps.vitals(), await asked(deps.db))
    return answer(request, found, 200 if found.ready else 503)


@speaks(Health)
async def healthy(request: web.Request) -> web.Response:
    """The verdict, the components, and what to do. Always 200: whoever reads it wants to read it."""
    deps = request.app[DEPS]
    return answer(request, health(deps.vitals(), await asked(deps.db)))


@speaks("text/plain")
async def metrics(request: web.Request) -> web.Response:
    """Prometheus' text format."""
    body, content_type = request.app[DEPS].metrics()
    return web.Response(body=body, headers={"Content-Type": content_type})
