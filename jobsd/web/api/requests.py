"""What requests may say: query strings and small bodies as models, ids and names out of the path."""

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictBool

from jobsd.domain.duration import Span, parse_duration
from jobsd.domain.errors import Exit, problem
from jobsd.domain.run import RunId, RunState
from jobsd.operations.pages import MOST, USUAL
from jobsd.operations.runs import FIRST, Instant, Words
from jobsd.store.lists import RunFilter

_SPAN = re.compile(r"(\d+(ms|[smhdw]))+")
_ID = re.compile(r"[1-9][0-9]{0,17}")


def _since(text: object) -> object:
    """ "24h" is an instant too: so long ago."""
    if isinstance(text, str) and _SPAN.fullmatch(text):
        return max(FIRST, datetime.now(UTC) - parse_duration(text))
    return text


REPEATED = ("state", "tag")
Tag = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_.-]*:", max_length=400)]


class Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PageQuery(Query):
    """One page of a list."""

    limit: int = Field(USUAL, ge=1, le=MOST)
    cursor: str | None = Field(None, max_length=1000, pattern=r"^[A-Za-z0-9_-]+$")


class Narrowed(Query):
    """Which runs, page by page or as they change."""

    state: tuple[RunState, ...] = Field((), description="may be given more than once")
    job: str | None = Field(None, max_length=200)
    tag: Annotated[tuple[Tag, ...], Field(max_length=20)] = Field(
        (), description="name:value, may be given more than once"
    )

    @property
    def tags(self) -> dict[str, str]:
        """Names and values. Of a name that is there more than once, the last."""
        return {name: value for name, _, value in (tag.partition(":") for tag in self.tag)}


class RunsQuery(PageQuery, Narrowed):
    """Which runs."""

    since: Annotated[Instant, BeforeValidator(_since)] | None = Field(None, description='an instant, or "24h"')
    total: Literal["true", "false"] = Field("false", description="true: how many there are in all, as X-Total")


class AuditQuery(PageQuery):
    """Which entries."""

    run: int | None = Field(None, ge=1, le=2**62)
    job: str | None = Field(None, max_length=200)
    actor: str | None = Field(None, max_length=200, description='"unix:alice", "token:web", "node:db1"')
    act: str | None = Field(None, max_length=200, description='"queued", "retry", "disabled"')
    since: Annotated[Instant, BeforeValidator(_since)] | None = Field(None, description='an instant, or "24h"')


class ChainQuery(Query):
    """Which stretch of the chain."""

    cursor: str | None = Field(None, max_length=1000, pattern=r"^[A-Za-z0-9_-]+$")


class ExportQuery(Query):
    """One page of the export."""

    limit: int = Field(1000, ge=1, le=5000)
    cursor: str | None = Field(None, max_length=1000, pattern=r"^[A-Za-z0-9_-]+$")


class MessagesQuery(Query):
    """Messages after the one with this id."""

    after: int = Field(0, ge=0, le=2**62)
    limit: int = Field(MOST, ge=1, le=1000)


class NextQuery(Query):
    """How many slots."""

    count: int = Field(5, ge=1, le=MOST)


class Reasoned(Query):
    """A change that needs nothing but a reason."""

    reason: Words | None = Field(None, description="why, for the audit")


class DisableBody(Reasoned):
    """Why a job is switched off, and for how long."""

    lasts: Span | None = Field(
        None, alias="for", description='then it is enabled by itself: "2h"; absent: by a person alone'
    )


class ForceBody(Query):
    """Why a running run is ended."""

    reason: Words = Field(description="why, for the audit and for the run's error")


class BulkFilter(Narrowed):
    """Which runs are meant; without states those in which the act is allowed."""

    since: Annotated[Instant, BeforeValidator(_since)] | None = Field(None, description='an instant, or "24h"')
    before: int | None = Field(None, ge=1, le=2**62, description="only runs with a smaller id")

    def wanted(self) -> RunFilter:
        before = None if self.before is None else RunId(self.before)
        return RunFilter(self.state, self.job, self.since, before, self.tags)


class BulkBody(Reasoned):
    """Many runs at once."""

    filter: BulkFilter = Field(description="{} for all of them")
    dry_run: StrictBool = Field(False, description="only count them")


def run_of(request: web.Request) -> RunId:
    """The run's id in the path. Raises E0503 for what cannot be one."""
    text = request.match_info["run"]
    if not _ID.fullmatch(text):
        hint = "the latest ones: jobsd run list"
        raise problem("E0503", f'there is no run "{text[:100]}"', hint, exit_code=Exit.NOT_FOUND)
    return RunId(int(text))
