"""/api/v1/audit"""

from aiohttp import web

from jobsd.domain.run import RunId
from jobsd.operations import audit
from jobsd.operations.audit import ActView, ChainView, EntryRecord, SealRecord
from jobsd.operations.pages import Page
from jobsd.store.audit import AuditFilter
from jobsd.web.api.requests import AuditQuery, ChainQuery, ExportQuery
from jobsd.web.body import query_of
from jobsd.web.contract import speaks
from jobsd.web.deps import DEPS, answer
from jobsd.web.links import paged


@speaks(Page[ActView], query=AuditQuery)
async def page(request: web.Request) -> web.Response:
    """Every act of machine and person, the latest first."""
    query = query_of(request, AuditQuery)
    run = None if query.run is None else RunId(query.run)
    wanted = AuditFilter(run, query.job, query.actor, query.act, query.since)
    return paged(request, await audit.page(request.app[DEPS].db, wanted, query.limit, query.cursor))


@speaks(ChainView, query=ChainQuery)
async def verify(request: web.Request) -> web.Response:
    """Whether the chain of seals holds: a stretch of it, read and hashed anew."""
    query = query_of(request, ChainQuery)
    return answer(request, await audit.verify(request.app[DEPS].db, query.cursor))


@speaks(Page[EntryRecord | SealRecord], query=ExportQuery)
async def export(request: web.Request) -> web.Response:
    """All entries and seals from the first, to be checked elsewhere."""
    deps, query = request.app[DEPS], query_of(request, ExportQuery)
    found = await audit.export(deps.db, query.limit, query.cursor)
    for item in found.items:
        if isinstance(item, EntryRecord):
            plain = item.model_dump()
            item.masked = deps.redactor.fields(plain) != plain
    return paged(request, found)
