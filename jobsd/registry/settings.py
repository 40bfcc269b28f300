"""The daemon's own settings: every table of jobsd.toml besides `[jobs.*]` and `[environments.*]`."""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator

from jobsd.domain.alert import LOG
from jobsd.domain.destination import Network
from jobsd.domain.duration import Duration, Size
from jobsd.domain.job import Strict


class DaemonSettings(Strict):
    """This node."""

    name: str | None = Field(None, description="this node's name; default: the host's name")
    pools: tuple[str, ...] = Field(("default",), description="the pools whose jobs this node takes")
    slots: int = Field(20, ge=1, le=10_000, description="how many runs this node executes at once")
    state_dir: str | None = Field(None, description="lock files and sockets; default /var/lib/jobsd, ./.jobsd in dev")
    drain: Duration = Field(timedelta(seconds=30), description="how long a first SIGTERM lets runs finish")
    enabled: bool = Field(True, description="false (or JOBSD_ENABLED=false): schedules and claims nothing")
    dry_run: bool = Field(False, description="true (or JOB_DRY_RUN=1): runs are recorded, no work is done")
    stale_sweep: Duration = Field(
        timedelta(minutes=5), ge=timedelta(seconds=1), description="how often it looks for runs not heard of"
    )


class DatabaseSettings(Strict):
    """PostgreSQL: where it is, and how long to wait for it."""

    url: SecretStr | None = Field(None, description="PostgreSQL; DATABASE_URL comes first")
    direct_url: SecretStr | None = Field(None, description="past a pooler, for lock, listen and job sessions")
    schema_name: str = Field("jobsd", alias="schema", pattern=r"^[a-z_][a-z0-9_]{0,62}$", description="the schema")
    pool: int = Field(4, ge=1, le=100, description="work connections")
    connect_timeout: Duration = Field(timedelta(seconds=15), description="how long start-up tries to reach the server")
    statement_timeout: Duration = Field(timedelta(seconds=10), description="limit of every internal query")


def _host_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,253}", name):
        raise ValueError(f'expected a name alone, like "jobs.example.org", without scheme or port, got "{name}"')
    return name


HostName = Annotated[str, AfterValidator(_host_name)]


class HttpSettings(Strict):
    """The listeners: TCP and the Unix socket."""

    host: str = Field("127.0.0.1", description="address to listen on; off loopback also reading needs a token")
    port: int = Field(8620, ge=0, le=65535, description="0: any free port")
    socket: str | None = Field(None, description="Unix socket; default /run/jobsd/jobsd.sock, .jobsd/jobsd.sock in dev")
    hosts: tuple[HostName, ...] = Field((), description="names that requests may use besides host and loopback's")
    rate: int = Field(100, ge=1, le=100_000, description="requests a second from one token or address, over TCP")
    max_body: Size = Field(16 << 20, description="largest request body; 10,000 runs in one call take a few MiB")


class LogSettings(Strict):
    """The log."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is written")
    format: Literal["auto", "json", "pretty"] = Field("auto", description="auto: pretty on a terminal, JSON elsewhere")


class ChannelSettings(Strict):
    """One way to tell people."""

    url: SecretStr = Field(description="an Apprise URL, e.g. mailto://… or slack://…; may hold ${VAR}")
    allow: tuple[Network, ...] = Field((), description="addresses it may reach besides public and private ones")


class AlertSettings(Strict):
    """How people are told of failures."""

    every: Duration = Field(timedelta(minutes=15), description="at most one message for one fingerprint in this time")
    channels: Mapping[str, ChannelSettings] = Field({}, description="who is told; the log always is")

    @field_validator("channels")
    @classmethod
    def _the_log_is_no_channel(cls, channels: Mapping[str, ChannelSettings]) -> Mapping[str, ChannelSettings]:
        if LOG in channels:
            raise ValueError(f'expected another name than "{LOG}": the log is told always')
        return channels


class LeaseSettings(Strict):
    """Times that decide who is alive. All on the monotonic clock."""

    beat: Duration = Field(timedelta(seconds=2), description="between two heartbeats")
    deadline: Duration = Field(timedelta(seconds=3), description="limit of one statement of the lock session")
    adopt: Duration = Field(timedelta(seconds=10), description="work goes on so long without the lock session")
    lease: Duration = Field(timedelta(seconds=12), description="commands are ended so long after the last beat")
    kill: Duration = Field(timedelta(seconds=3), description="from the lease's end to the last process gone")
    rescue: Duration = Field(timedelta(seconds=20), description="a node whose beat stands still so long is dead")


class Settings(Strict):
    """Everything but the jobs. See docs/reference/configuration.md."""

    daemon: DaemonSettings = DaemonSettings()
    database: DatabaseSettings = DatabaseSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    alerts: AlertSettings = AlertSettings()
    lease: LeaseSettings = LeaseSettings()
