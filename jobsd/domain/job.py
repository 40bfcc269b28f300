"""A job: one `[jobs.<name>]` table of the registry, checked. Pydantic, frozen, no unknown keys."""

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from jobsd.domain.destination import Network
from jobsd.domain.duration import Duration, Size
from jobsd.domain.outcome import RetryPolicy
from jobsd.domain.rate import Rate
from jobsd.domain.retry_presets import PRESETS, spelt_out

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
PRIORITIES: Mapping[str, int] = {"critical": 0, "high": 3, "medium": 5, "low": 8}  # 0 is the most urgent, 9 the least
MEDIUM = PRIORITIES["medium"]
FREE_SIGNALS = ("SIGUSR2", *(f"SIGRTMIN+{n}" for n in range(16)), *(f"SIGRTMAX-{n}" for n in range(15)))


def parse_priority(value: object) -> int:
    """Turn "high" or 3 into 3. Raises `ValueError`, worded for the file's author."""
    if isinstance(value, str) and value in PRIORITIES:
        return PRIORITIES[value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9:
        return value
    came = f'"{value}"' if isinstance(value, str) else value
    raise ValueError(f"expected one of {', '.join(PRIORITIES)}, or 0 (first) to 9 (last), got {came}")


Priority = Annotated[
    int,
    BeforeValidator(parse_priority),
    WithJsonSchema(
        {"title": "priority", "anyOf": [{"enum": [*PRIORITIES]}, {"type": "integer", "minimum": 0, "maximum": 9}]}
    ),
]
KINDS = ("handler", "command", "sql", "http", "external")  # what does the work: every job has exactly one
EXTERNAL_LIMIT = timedelta(minutes=30)
FREE_TEXT = ("description", "command", "sql", "http", "params", "env", "cwd", "runbook")  # where secrets may stand


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Blackout(Strict):
    """A time in which no slot runs: either from/to, or a window that opens by cron and lasts a duration."""

    start: datetime | None = Field(None, alias="from", description="first instant, local to the schedule's time zone")
    end: datetime | None = Field(None, alias="to", description="first instant after it")
    cron: str | None = Field(None, description="when a recurring window opens")
    duration: Duration | None = Field(None, description="how long the recurring window lasts, at most 31d")


class ScheduleSpec(Strict):
    """When a job runs. Exactly one of `every`, `cron`, `after`; no schedule at all means: by hand."""

    every: Duration | None = Field(None, description="interval, anchored at the epoch: no drift, no shift at a restart")
    offset: Duration = Field(timedelta(0), description="shifts an interval's anchor")
    cron: str | None = Field(None, description="five fields or a nickname such as @daily; day-of-month OR day-of-week")
    after: tuple[str, ...] | None = Field(
        None, description="starts when all these jobs completed for their latest slot"
    )
    timezone: str = Field("UTC", description="an IANA name, e.g. Europe/Berlin")
    jitter: Duration = Field(timedelta(0), description="each slot's run is due up to this much later, evenly spread")
    starts: datetime | None = Field(None, description="no slot before")
    ends: datetime | None = Field(None, description="no slot from here on")
    blackout: tuple[Blackout, ...] = Field((), description="times in which no slot runs")
    missed: Literal["skip", "once", "all"] = Field("once", description="what becomes of slots that came due unnoticed")
    missed_within: Duration = Field(timedelta(hours=1), description="how old a missed slot may be to be caught up on")
    overlap: Literal["skip", "wait"] = Field("skip", description="when the job's earlier run is not over yet")
    dst: Literal["debian", "literal", "skip", "once"] = Field("debian", description="rule for daylight saving")


def parse_retry(value: object, info: ValidationInfo) -> object:
    """A preset's table for its name. Raises `ValueError`, worded for the file's author."""
    return spelt_out(value, info.data.get("priority", MEDIUM)) if isinstance(value, str) else value


def _add_presets(schema: dict[str, Any]) -> None:
    schema["anyOf"].append({"enum": [*PRESETS]})


class RetrySpec(Strict):
    """Retries after a failed attempt. Without one a failure is final."""

    attempts: int = Field(ge=0, le=100, description="retries after the first attempt")
    backoff: Literal["exponential", "linear", "constant"] = Field("exponential", description="how the wait grows")
    base: Duration = Field(timedelta(seconds=1), description="the first wait")
    cap: Duration = Field(timedelta(seconds=30), description="the longest wait")

    def policy(self) -> RetryPolicy:
        return RetryPolicy(self.attempts, self.backoff, self.base.total_seconds(), self.cap.total_seconds())


class Runbook(Strict):
    """What the person on call reads."""

    duration: str = Field("", description="how long it takes as a rule")
    on_failure: str = Field("", description="what a failure means and what to do")
    owner: str = Field("", description="whom to ask")


def parse_address(value: str) -> str:
    """An HTTP address as it is. Raises `ValueError`, worded for the file's author, when nothing can be asked there."""
    with suppress(ValueError):  # of a host in brackets, or a port, that is none
        parts = urlsplit(value)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return value
    raise ValueError(f'expected an address, like "https://host/path", got "{value}"')


class HttpSpec(Strict):
    """A request. A 2xx answer completes the run, any other fails it."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = Field("GET", description="HTTP method")
    url: Annotated[str, AfterValidator(parse_address)] = Field(description="http:// or https://; may hold ${VAR}")
    headers: Mapping[str, str] = Field({}, description="added to jobsd's own")
    body: str | Mapping[str, Any] | None = Field(
        None, description="text, or a table sent as JSON; absent: the parameters"
    )
    allow: tuple[Network, ...] = Field(
        (), description="addresses it may reach besides public and private ones, such as loopback's by another name"
    )


class AlertSpec(Strict):
    """How people hear of this job's failures."""

    every: Duration = Field(timedelta(minutes=15), description="at most one message for the same failure in this time")
    channels: tuple[str, ...] | None = Field(None, description="names of [alerts.channels]; absent: all of them")


class KeepSpec(Strict):
    """How long finished runs are kept, by their state. Their attempts and audit entries stay in any case."""

    completed: Duration = Field(timedelta(days=30), description="completed runs, from their end on")
    failed: Duration = Field(timedelta(days=90), description="failed runs")
    cancelled: Duration = Field(timedelta(days=30), description="cancelled runs")
    latest: int | None = Field(None, ge=0, le=1_000_000, description="at most so many finished runs, the latest ones")

    @property
    def days_by_state(self) -> Mapping[str, timedelta]:
        return {"completed": self.completed, "failed": self.failed, "cancelled": self.cancelled}


class JobDefinition(Strict):
    """One job. See docs/reference/configuration.md for every key."""

    name: str = Field(description="the table's name")
    description: str = Field("", description="what it is for")
    handler: str | None = Field(None, description="module:function, async or plain")
    command: tuple[str, ...] | None = Field(None, min_length=1, description="argv; no shell")
    sql: str | None = Field(None, description='statements, or "file:PATH"')
    http: HttpSpec | None = Field(None, description="a request")
    external: Literal[True] | None = Field(None, description="another program does the work and reports over the API")
    schedule: ScheduleSpec | None = Field(None, description="absent: started by hand")
    needs: tuple[str, ...] = Field((), description="jobs whose run of the same or latest slot must complete first")
    needs_within: Duration = Field(timedelta(hours=1), description="how long a slot waits for them")
    lock_key: str | None = Field(None, description="runs with one key never overlap; may name {parameters} or {run_id}")
    concurrency: int | None = Field(
        None, ge=1, le=1000, description="at most so many of the job at once, over all nodes"
    )
    rate: Rate | None = Field(None, description='at most so many starts in a time, over all nodes: "100/min"')
    max_active: int | None = Field(None, ge=1, le=1_000_000, description="at most so many queued and running at once")
    timeout: Duration = Field(timedelta(minutes=10), description="limit of one attempt")
    grace: Duration = Field(
        timedelta(seconds=5), description="from asking it to end (TERM, cancel) to ending it (KILL)"
    )
    priority: Priority = Field(MEDIUM, description="critical, high, medium, low, or 0 (first) to 9 (last)")
    retry: Annotated[RetrySpec | None, BeforeValidator(parse_retry)] = Field(
        None, description='absent: no retry; or a preset, "by-priority" or "queue"', json_schema_extra=_add_presets
    )
    params: Mapping[str, Any] = Field({}, description="defaults of its parameters")
    isolation: Literal["loop", "process"] | None = Field(None, description="where a handler runs; plain ones: process")
    env: Mapping[str, str] = Field({}, description="added to a command's environment")
    cwd: str | None = Field(None, description="a command's working directory")
    output: Size = Field(64 * 1024, le=1 << 20, description="how much of the output's end is kept, at most 1MiB")
    atomic: bool = Field(False, description="completes or fails as a whole: shows no progress, is never deleted")
    progress: bool = Field(True, description="whether it may report progress; an atomic job may not")
    stale_after: Duration = Field(timedelta(minutes=10), description="a run not heard of for so long is stale")
    keep: KeepSpec | Literal["forever"] = Field(KeepSpec(), description='how long finished runs are kept, or "forever"')
    restartable: bool = Field(False, description="a lost or interrupted run is queued again and uses no retry")
    enabled: bool = Field(True, description="false: no slots run, nothing is claimed")
    dry_run: bool = Field(False, description="its runs are recorded, no work is done")
    pool: str = Field("default", description="only nodes of this pool take its runs")
    signal: str | None = Field(None, description="SIGUSR2 or a real-time signal that triggers it")
    alert: AlertSpec = Field(AlertSpec(), description="how people hear of its failures")
    runbook: Runbook = Field(Runbook(), description="for the person on call")

    _written: Mapping[tuple[str | int, ...], str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _one_handler(self) -> "JobDefinition":
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
        if len(given) != 1:
            came = " and ".join(given) or "none"
            raise ValueError(f"expected exactly one of {', '.join(KINDS)}, got {came}")
        return self

    @property
    def kind(self) -> Literal["handler", "command", "sql", "http", "external"]:
        if self.handler is not None:
            return "handler"
        if self.command is not None:
            return "command"
        if self.sql is not None:
            return "sql"
        return "http" if self.http is not None else "external"

    @property
    def shows_progress(self) -> bool:
        return self.progress and not self.atomic

    @property
    def permanent(self) -> bool:
        """Whether its runs can never be deleted."""
        return self.atomic or self.keep == "forever"

    @property
    def limit(self) -> timedelta:
        """Of one attempt. A program that reports over the API has half an hour unless the job says otherwise."""
        return EXTERNAL_LIMIT if self.external and "timeout" not in self.model_fields_set else self.timeout

    @property
    def key_template(self) -> str | None:
        """The lock key's template; None when every run is its own key."""
        if self.lock_key is None:
            return None if self.concurrency else self.name
        return None if self.lock_key == "{run_id}" else self.lock_key

    def keep_as_written(self, written: Mapping[tuple[str | int, ...], str]) -> None:
        """Remember how values that came from variables and secret files are written, for `public`."""
        self._written = written

    def public(self) -> dict[str, Any]:
        """The definition as JSON for database, API and people: "${TOKEN}" stays "${TOKEN}", a secret names its file.

        It is a definition still: where no free text stands, such as in a timeout, the value itself is given.
        """
        shown: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        for path, text in self._written.items():
            if path[0] not in FREE_TEXT or path == ("http", "method"):
                continue
            at: Any = shown
            for step in path[:-1]:
                at = at[step]
            at[path[-1]] = text
        return shown

    @property
    def plain_params(self) -> dict[str, Any]:
        """Its parameters but for those that hold a filled-in variable or secret: what a run may keep in the database.

        An execution lays the run's parameters over the definition's, so that those left out are there all the same.
        """
        filled = {path[1] for path in self._written if path[0] == "params"}
        return {name: value for name, value in self.params.items() if name not in filled}

    @property
    def retry_policy(self) -> RetryPolicy:
        return self.retry.policy() if self.retry else RetryPolicy()

    @cached_property
    def hash(self) -> str:
        """16 hex digits that change whenever anything of the definition does."""
        return digest(self.model_dump(mode="json", by_alias=True))

    @property
    def schedule_hash(self) -> str:
        """16 hex digits that change only when a slot's instants may: policies and the rest do not count."""
        if self.schedule is None:
            return "manual"
        instants = {"every", "offset", "cron", "after", "timezone", "starts", "ends", "dst"}
        return digest(self.schedule.model_dump(mode="json", include=instants))


def digest(value: object) -> str:
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
