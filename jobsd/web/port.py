"""The TCP listener's socket; and when its port is taken, by whom, as far as /proc tells."""

import errno
import pwd
import socket
from collections.abc import Iterator
from pathlib import Path

from jobsd.domain.errors import Exit, JobsdError, problem

PROC = Path("/proc")
LISTENING = "0A"  # of the column st in /proc/net/tcp
BACKLOG = 128


def tcp_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on `host`. Raises E0401 (in use), E0404 (no such address here, or no permission)."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        hint = "check: [http] host"
        raise problem("E0404", f'"{host}" is no address of this machine: {error}', hint) from error
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _unusable(host, port, error) from error
    sock.setblocking(False)
    return sock


def _unusable(host: str, port: int, error: OSError) -> JobsdError:
    if isinstance(error, PermissionError):
        hint = "ports below 1024 need CAP_NET_BIND_SERVICE; use [http] port = 8620"
        return problem("E0404", f"port {port} cannot be opened: permission denied", hint, exit_code=Exit.PERMISSION)
    hint = "end it, or choose another: [http] port"
    if error.errno != errno.EADDRINUSE:
        return problem("E0404", f"{host}:{port} cannot be opened: {error.strerror}", "check: [http] host and port")
    holder = holder_of(port)
    return problem("E0401", f"port {port} is in use" + (f" by {holder}" if holder else ""), hint)


def holder_of(port: int) -> str | None:
    """Who listens on a port: "pid 812 (jobsd serve, user jobsd)"; None if this user may not see it."""
    wanted = {f"socket:[{inode}]" for inode in _inodes(port)}
    for process in PROC.glob("[0-9]*") if wanted else ():
        try:
            if any(str(link.readlink()) in wanted for link in (process / "fd").iterdir()):
                return _described(process)
        except OSError:  # not ours to look at, or gone
            continue
    return None


def _inodes(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        for line in (PROC / "net" / name).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                yield columns[9]


def _described(process: Path) -> str:
    words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    command = " ".join([Path(words[0]).name, *words[1:]]).strip()[:80]
    uid = process.stat().st_uid
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:
        user = str(uid)
    return f"pid {process.name} ({command}, user {user})"
