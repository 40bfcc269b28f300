"""/api/v1/runs/{run}/start, heartbeat, progress, messages, complete, fail: for programs that do the work themselves."""

import re
from typing import TypeVar

from aiohttp import web

from jobsd.domain.outcome import Failed
from jobsd.domain.run import Fence
from jobsd.operations import endings, external, reports
from jobsd.operations.endings import CompleteRequest, FailRequest
from jobsd.operations.external import Desk, Fenced, StartRequest
from jobsd.operations.reports import HeartbeatRequest, MessageRequest, ProgressRequest
from jobsd.operations.run_views import ProgressView, RunView
from jobsd.operations.told import Told
from jobsd.web.api.requests import run_of
from jobsd.web.auth import ACTOR
from jobsd.web.body import body_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.errors import refused

FENCE = "Jobsd-Fence"
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
Report = TypeVar("Report", bound=Fenced)


@speaks(RunView, body=StartRequest, refuses=("E0502", "E0519", "E0520", "E0525", "E0527"))
async def start(request: web.Request) -> web.Response:
    """Begin a queued run of an external job; `fence` of the answer stands in every report."""
    asked = await body_of(request, StartRequest)
    return answer(request, await external.start(desk_of(request), run_of(request), asked.reason))


@speaks(ProgressView, body=HeartbeatRequest, headers=(FENCE,), refuses=("E0517", "E0519"))
async def heartbeat(request: web.Request) -> web.Response:
    """It lives."""
    _, fence = await _reported(request, HeartbeatRequest)
    return answer(request, await reports.heartbeat(desk_of(request), run_of(request), fence))


@speaks(ProgressView, body=ProgressRequest, headers=(FENCE,), refuses=("E0516", "E0517", "E0519"))
async def progress(request: web.Request) -> web.Response:
    """How far it is: as a whole, or in one step of a pipeline that is declared once."""
    said, fence = await _reported(request, ProgressRequest)
    return answer(request, await reports.progress(desk_of(request), run_of(request), fence, said))


@speaks(ProgressView, body=MessageRequest, headers=(FENCE,), refuses=("E0517", "E0519"))
async def message(request: web.Request) -> web.Response:
    """What happens, for people to read."""
    said, fence = await _reported(request, MessageRequest)
    return answer(request, await reports.message(desk_of(request), run_of(request), fence, said))


@speaks(RunView, body=CompleteRequest, headers=(FENCE,), refuses=("E0517", "E0519"))
async def complete(request: web.Request) -> web.Response:
    """Its work is done. Said again it is answered alike, so that a lost answer does no harm."""
    said, fence = await _reported(request, CompleteRequest)
    return answer(request, await endings.complete(desk_of(request), run_of(request), fence, said.result))


@speaks(RunView, body=FailRequest, headers=(FENCE,), refuses=("E0517", "E0519"))
async def fail(request: web.Request) -> web.Response:
    """Its work failed. A retry that its job declares queues it again."""
    said, fence = await _reported(request, FailRequest)
    failed = Failed(said.kind, said.error, final=said.final)
    return answer(request, await endings.fail(desk_of(request), run_of(request), fence, failed))


def desk_of(request: web.Request) -> Desk:
    """Who reports, and where."""
    deps = request.app[DEPS]
    return Desk(deps.db, deps.registry(), deps.node_id(), request[ACTOR], Told(deps.observe, deps.ended))


async def _reported(request: web.Request, model: type[Report]) -> tuple[Report, Fence]:
    """The body, and the fence that it or the header names. Raises `Refused` (422) without one, or with two."""
    said = await body_of(request, model)
    header = request.headers.get(FENCE)
    if header is not None and not _NUMBER.fullmatch(header):
        raise refused(422, "E0507", f"{FENCE}: expected a number, got {header[:100]!r}")
    named = {fence for fence in (said.fence, None if header is None else int(header)) if fence is not None}
    if not named:
        hint = "the start answered it, as `fence` of the run"
        raise refused(422, "E0507", f"fence: is missing, in the body or as {FENCE}", hint)
    if len(named) > 1 or max(named) >= 2**63:
        raise refused(422, "E0507", f"fence: the header {FENCE} says otherwise")
    return said, Fence(named.pop())
