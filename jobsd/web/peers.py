"""Who is at the other end of a connection: a user of this machine, this machine itself, or somebody out there."""

import ipaddress
import pwd
import socket
import struct
from typing import cast

from aiohttp import web

from jobsd.web.deps import DEPS
from jobsd.web.errors import refused

PASSED_ON = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")  # what proxies add
_UCRED = struct.Struct("3i")  # pid, uid, gid of unix(7)


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


def neighbourhood(request: web.Request) -> str:
    """Whom limits count together: an IPv4 address, or the /64 that one owner of IPv6 has."""
    try:
        address = ipaddress.ip_address((request.remote or "").partition("%")[0])
    except ValueError:
        return "here"  # the Unix socket
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def is_local(request: web.Request) -> bool:
    """Whether only this machine can have sent it: the listener is on loopback, and no proxy passed it on."""
    return is_loopback(request.app[DEPS].host) and not any(name in request.headers for name in PASSED_ON)


def own_host(request: web.Request) -> None:
    """Only names of our own: whoever made another name lead here is after a browser's access to this machine.

    Ours are loopback's, `[http] host` and `hosts`, and the address that the connection came in at. Raises 421.
    """
    given = request.headers.get("Host", "")
    name = given.rpartition(":")[0] if not given.endswith("]") and ":" in given else given
    bare = name.strip("[]").lower()
    if not bare or is_loopback(bare) or bare in (each.lower() for each in _own_names(request)):
        return
    hint = "use 127.0.0.1 or localhost, or name it: [http] hosts"
    raise refused(421, "E0510", f'this listener is not "{given[:200]}"', hint)


def _own_names(request: web.Request) -> tuple[str, ...]:
    deps = request.app[DEPS]
    at = request.transport.get_extra_info("sockname") if request.transport is not None else None
    return (deps.host, *deps.hosts, *(at[:1] if isinstance(at, tuple) else ()))


def is_loopback(host: str) -> bool:
    """Whether a name or an address means this machine alone."""
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
