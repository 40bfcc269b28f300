"""/api/v1/jobs/{job}/stats"""

from aiohttp import web

from jobsd.operations import overview
from jobsd.operations.overview import Stats
from jobsd.web.api.requests import Query
from jobsd.web.body import query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer


@speaks(Stats)
async def of_job(request: web.Request) -> web.Response:
    """How its attempts ended in the last day, week and month, how long they took, how many succeeded."""
    deps, _ = request.app[DEPS], query_of(request, Query)
    return answer(request, await overview.stats(deps.db, deps.registry(), request.match_info["job"]))
