"""What requests may say: query strings and small bodies as models, ids and names out of the path."""

import re
from datetime import UTC, datetime
from typing import Annotated

from aiohttp import web
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from jobsd.domain.duration import parse_duration
from jobsd.domain.errors import Exit, problem
from jobsd.domain.run import RunId, RunState
from jobsd.operations.pages import MOST, USUAL
from jobsd.operations.runs import FIRST, Instant, Words

_SPAN = re.compile(r"(\d+(ms|[smhdw]))+")
_ID = re.compile(r"[0-9]{1,18}")


def _since(text: object) -> object:
    """ "24h" is an instant too: so long ago."""
    if isinstance(text, str) and _SPAN.fullmatch(text):
        return max(FIRST, datetime.now(UTC) - parse_duration(text))
    return text


class Query(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PageQuery(Query):
    """One page of a list."""

    limit: int = Field(USUAL, ge=1, le=MOST)
    cursor: str | None = Field(None, max_length=1000)


class RunsQuery(PageQuery):
    """Which runs."""

    state: tuple[RunState, ...] = Field((), description="may be given more than once")
    job: str | None = Field(None, max_length=200)
    since: Annotated[Instant, BeforeValidator(_since)] | None = Field(None, description='an instant, or "24h"')


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


def run_of(request: web.Request) -> RunId:
    """The run's id in the path. Raises E0503 for what cannot be one."""
    text = request.match_info["run"]
    if not _ID.fullmatch(text):
        hint = "the latest ones: jobsd run list"
        raise problem("E0503", f'there is no run "{text[:100]}"', hint, exit_code=Exit.NOT_FOUND)
    return RunId(int(text))
