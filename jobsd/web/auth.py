"""Who asks, and whether they may: the peer's user on the Unix socket, nobody yet over TCP.

Over TCP reading is open, since the listener is on loopback (`listen` sees to that), and every change needs a token.
A browser is kept out by its own honesty: a foreign `Host` means a name that was rebound to us, an `Origin` on a
change means a page that is not ours.
"""

import ipaddress
import pwd
import socket
import struct
from typing import cast

from aiohttp import web

from jobsd.web.errors import refused
from jobsd.web.patience import Handler

READING = frozenset({"GET", "HEAD"})
HOST = web.AppKey("host", str)
ACTOR = web.RequestKey("actor", str)
_UCRED = struct.Struct("3i")  # pid, uid, gid of unix(7)


@web.middleware
async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Let a request through with its actor, or raise `Refused`: 401, 403, 421."""
    peer = unix_peer(request)
    if peer is None:
        _own_host(request)
    if request.method not in READING:
        if "Origin" in request.headers:
            raise refused(403, "E0510", f"a change with an Origin ({request.headers['Origin'][:200]}) is not taken")
        if peer is None:
            raise refused(
                401,
                "E0402",
                f"no token: {request.host} requires one for a change",
                "run it on this host through the Unix socket: jobsd …",
                headers={"WWW-Authenticate": 'Bearer realm="jobsd"'},
            )
    request[ACTOR] = f"unix:{user_name(peer)}" if peer is not None else "tcp"
    return await handler(request)


def unix_peer(request: web.Request) -> int | None:
    """The uid at the other end of a Unix socket, as the kernel knows it; None over TCP.

    Raises `ConnectionResetError` when the connection has gone meanwhile, since nobody is there to be answered.
    """
    if request.transport is None:
        raise ConnectionResetError("the client has gone")
    sock = cast(socket.socket, request.transport.get_extra_info("socket"))
    if sock.family != socket.AF_UNIX:
        return None
    return peer_of(sock)[1]


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Process id and uid at the other end of a Unix socket."""
    pid, uid, _ = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return pid, uid


def user_name(uid: int) -> str:
    """The user's name; the number where there is none, as in a container."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _own_host(request: web.Request) -> None:
    """Only names of our own: whoever made another name lead here is after a browser's access to this machine."""
    given = request.headers.get("Host", "")
    name = given.rpartition(":")[0] if not given.endswith("]") and ":" in given else given
    if name and not is_loopback(name.strip("[]")) and name.strip("[]").lower() != request.app[HOST].lower():
        raise refused(421, "E0510", f'this listener is not "{given[:200]}"', "use 127.0.0.1 or localhost")


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine alone."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
