"""Finds the daemon: flag, environment, configuration, then the usual sockets. `client` speaks to what is found here."""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobsd.domain.errors import Exit, JobsdError, problem

SOCKETS = (Path(".jobsd/jobsd.sock"), Path("/run/jobsd/jobsd.sock"))


@dataclass(frozen=True, slots=True)
class Address:
    """A daemon's door: a base URL, or a Unix socket. `token` goes along with a URL only."""

    url: str | None = None
    socket: Path | None = None
    token: str | None = None

    def __str__(self) -> str:
        return self.url or str(self.socket)


def find(asked: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> Address:
    """Where to speak to. `asked` holds the options --url, --socket and --config.

    Raises E0403 when nothing names a daemon and none of the usual sockets is there.
    """
    token = environ.get("JOBSD_TOKEN") or None
    if url := asked.get("url"):
        return Address(url=checked_url(str(url)), token=token)
    if socket := asked.get("socket"):
        return Address(socket=Path(socket))
    if url := environ.get("JOBSD_URL"):
        return Address(url=checked_url(url), token=token)
    if socket := environ.get("JOBSD_SOCKET") or configured(asked.get("config"), environ):
        return Address(socket=Path(socket))
    for usual in SOCKETS:
        if there(usual):
            return Address(socket=usual)
    raise nowhere()


def checked_url(url: str) -> str:
    """`url` without its last slash. Raises E0101 unless it is http:// or https:// with a host."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise problem("E0101", f'--url: expected http://HOST:PORT or https://…, got "{url}"', exit_code=Exit.USAGE)
    return url.rstrip("/")


def configured(config: str | None, environ: Mapping[str, str]) -> str | None:
    """[http] socket of the configuration. A file that cannot be read says nothing here; `jobsd check` tells."""
    from jobsd.registry.files import find as file_of

    file = file_of(Path(config) if config else None, environ)
    try:
        text = file.read_text(encoding="utf-8") if file else ""
        if "socket" not in text:  # most files: spares the parse of a registry that may be long
            return None
        socket = tomllib.loads(text).get("http", {}).get("socket")
    except (OSError, ValueError, AttributeError):
        return None
    return os.path.expandvars(socket) if isinstance(socket, str) else None


def there(socket: Path) -> bool:
    """Whether it exists, or may: a folder that we must not look into is told apart when the socket is opened."""
    try:
        return socket.exists()
    except PermissionError:
        return True


def nowhere() -> JobsdError:
    tried = "--url, JOBSD_URL, --socket, JOBSD_SOCKET, [http] socket of the configuration"
    return problem(
        "E0403",
        "no daemon found on this machine",
        f"looked for: {', '.join(map(str, SOCKETS))}; not set: {tried}",
        "start one: jobsd dev, or: jobsd serve    reach another: --url http://HOST:8620",
        exit_code=Exit.UNREACHABLE,
    )
