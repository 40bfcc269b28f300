"""Keeps the connections of a thread to where a channel may go. Apprise opens them itself, through several libraries.

So they are looked at where all of them pass: at Python's audit event of every connect, which comes before it is made
and has the very address that it goes to. What is resolved there is not resolved again.
"""

import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

from jobsd.domain.destination import NotAllowed, refusal

EVENTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


class _Rule(threading.local):
    """What holds in this thread; no host: anything."""

    host: str | None = None
    allow: Sequence[str] = ()
    refused: NotAllowed | None = None


_RULE = _Rule()


class Kept(OSError):
    """A connection that was not made, as libraries expect it to fail."""


@contextmanager
def kept_to(host: str, allow: Sequence[str]) -> Iterator[None]:
    """Refuse this thread's connections to addresses where no request may go. Raises `NotAllowed` at the end if one was.

    `host`: what the channel's URL names. At the end, since what the block calls may keep the reason to itself.
    """
    _watch()
    _RULE.host, _RULE.allow, _RULE.refused = host, allow, None
    try:
        yield
        if _RULE.refused is not None:
            raise _RULE.refused
    finally:
        _RULE.host, _RULE.refused = None, None


@cache
def _watch() -> None:
    """From the first message on, for the process's life: a hook cannot be taken away."""
    sys.addaudithook(_look)


def _look(event: str, args: tuple[Any, ...]) -> None:
    if event in EVENTS and _RULE.host is not None and isinstance(args[1], tuple):
        for address in _addresses(str(args[1][0])):
            if kind := refusal(address, _RULE.host, _RULE.allow):
                _RULE.refused = NotAllowed(_RULE.host, address, kind)
                raise Kept(str(_RULE.refused))


def _addresses(host: str) -> list[str]:
    """`host` itself, which as a rule is an address by now."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, None)]
