"""The servers of one URL: which hosts it names, which one answered last, and which timelines they have shown.

A server is left when it is read-only, or when another has been seen on a newer timeline: then it is a former primary
that still answers. Connecting is `db.connect`'s.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qs, unquote, urlsplit

import asyncpg

HOST_S = 1.5  # for each host but the last, which gets what is left
WRITES = ("any", "read-write", "primary")  # of target_session_attrs: those that a server which is written to can meet


@dataclass(frozen=True, slots=True)
class Host:
    """A name, an address or a socket's folder, and a port; None is the driver's default."""

    name: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        return f"{self.name or 'local socket'}:{self.port or 5432}"


class Servers:
    """What this process knows of the servers of one URL. Shared by its connections, whichever thread they are in."""

    def __init__(self, url: str) -> None:
        """Raises `ValueError`; as the driver's `ClientConfigurationError` when its words may be shown."""
        wanted = parse_qs(urlsplit(url).query).get("target_session_attrs", ["read-write"])[-1]
        if wanted not in WRITES:
            raise asyncpg.ClientConfigurationError(
                f'jobsd writes: expected target_session_attrs=read-write, got "{wanted}"'
            )
        self.hosts = _hosts(url)
        self.timeline = 0  # the newest that any of them has shown
        self._last = self.hosts[0]

    def to_try(self) -> list[Host]:
        """All hosts, each once: the one that answered last, then the others as the URL has them."""
        return [self._last, *(host for host in self.hosts if host != self._last)]

    def answered(self, host: Host, timeline: int) -> None:
        self._last = host
        self.timeline = max(self.timeline, timeline)


class Connection(asyncpg.Connection):
    """A connection that knows its server's timeline. Behind a pooler `opening` begins each transaction, else empty."""

    servers: Servers
    timeline: int = 0
    opening: str = ""

    @property
    def superseded(self) -> bool:
        """Whether its server is a former primary: another one has been seen on a newer timeline."""
        return self.timeline < self.servers.timeline


@lru_cache(maxsize=64)
def servers_of(url: str) -> Servers:
    """The same object for the same URL. Raises `ValueError`."""
    return Servers(url)


def _hosts(url: str) -> tuple[Host, ...]:
    """As libpq reads them: host:port,host:port before the path, or lists in the query's `host` and `port`."""
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    written = parts.netloc.rpartition("@")[2] or query.get("host", [""])[-1]
    hosts = [_host(each) for each in written.split(",")]
    ports: list[int | None] = [int(port) for port in query.get("port", [""])[-1].split(",") if port]
    if len(ports) not in (0, 1, len(hosts)):
        wrong = f"expected one port, or one for each of {len(hosts)} hosts, got {len(ports)}"
        raise asyncpg.ClientConfigurationError(wrong)
    spread = ports * len(hosts) if len(ports) == 1 else ports or [None] * len(hosts)
    return tuple(dict.fromkeys(Host(h.name, h.port or port) for h, port in zip(hosts, spread, strict=True)))


def _host(written: str) -> Host:
    """One of "db1", "db1:5433", "[::1]:5433", "/run/postgresql", "%2Frun%2Fpostgresql"."""
    found = re.fullmatch(r"(\[[^]]*\]|/.*|[^:]*)(?::(\d*))?", unquote(written))
    if found is None:
        raise ValueError('expected hosts like "db1:5432,db2:5432"')
    return Host(found[1].strip("[]") or None, int(found[2]) if found[2] else None)
