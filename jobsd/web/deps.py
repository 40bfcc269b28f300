"""What the handlers stand on: given once by the daemon, found in every request. And what they answer with."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from aiohttp import web
from pydantic import BaseModel, Field

from jobsd import handlers
from jobsd.domain.events import Observe
from jobsd.domain.run import NodeId
from jobsd.observe.redact import Redactor
from jobsd.operations.run_views import RunView
from jobsd.registry.load import Registry
from jobsd.sdk import Pack
from jobsd.store.db import Db
from jobsd.store.history import Ended
from jobsd.web.etag import has_it, tag_of
from jobsd.web.patience import USUAL, Patience
from jobsd.web.vitals import Vitals

DEPTH = 200  # of a job's result; what lies deeper is masked


class Changed(BaseModel):
    """What a reload changed of one job."""

    job: str
    keys: list[str] = Field(description='"timeout: 10m -> 20m"')


class Reloaded(BaseModel):
    """The difference between the registry that was and the one that is."""

    plan: str = Field(description='"+1 added ~2 changed -0 removed"')
    added: list[str] = []
    changed: list[Changed] = []
    removed: list[str] = []


@dataclass(frozen=True, slots=True)
class Deps:
    """Parts of the daemon, most of them as questions to be asked anew each time."""

    db: Db
    registry: Callable[[], Registry]
    vitals: Callable[[], Vitals]
    metrics: Callable[[], tuple[bytes, str]]  # the text and its content type
    reload: Callable[[str, str | None], Awaitable[Reloaded]]  # actor, reason; raises JobsdError when it is refused
    wake: Callable[[], object]  # something was put into the queue, or a job switched on
    observe: Observe
    node: str
    started_at: datetime
    host: str = "127.0.0.1"  # listened on; off loopback also reading needs a token
    hosts: tuple[str, ...] = ()  # names that requests may use besides it and those of loopback
    rate: int = 100  # requests a second from one token or neighbourhood over TCP
    patience: Patience = USUAL
    redactor: Redactor = field(default_factory=Redactor)
    node_id: Callable[[], NodeId] = lambda: NodeId(0)  # of this daemon's row; another after it was fenced
    ended: Callable[[Sequence[Ended]], object] = lambda _ended: None  # runs that another program executed are over
    packs: Callable[[], Sequence[Pack]] = handlers.packs


DEPS = web.AppKey("deps", Deps)


def answer(
    request: web.Request, view: BaseModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """`view` as JSON, without secrets. A run, and all that is read, comes with its ETag; 304 to who has it."""
    plain = request.app[DEPS].redactor.fields(view.model_dump(mode="json"), DEPTH)
    version = view.version if isinstance(view, RunView) else None
    return tagged(request, orjson.dumps(plain), version, status, headers)


def tagged(
    request: web.Request,
    body: bytes,
    version: int | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """JSON with its ETag, which begins with `version`."""
    reading, more = request.method in ("GET", "HEAD"), dict(headers or {})
    if version is not None or (reading and status == 200):
        tag = more["ETag"] = tag_of(body, version)
        if reading and has_it(request, tag):
            return web.Response(status=304, headers=more)
    return web.Response(status=status, body=body, content_type="application/json", headers=more)
