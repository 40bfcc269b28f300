"""Tells systemd how the service is (sd_notify), in pure Python. Does nothing where nobody listens.

When to tell what is the daemon's: READY only when it is, a watchdog ping only when the loops have advanced.
"""

import os
import socket
import time
from collections.abc import Mapping
from datetime import timedelta

LONGEST_STATUS = 500


class Systemd:
    """The service manager's notification socket, as the environment names it."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self.watchdog_s = _watchdog_s(environ)  # it must be told within so many seconds; None: there is no watchdog

    @property
    def ping_every_s(self) -> float | None:
        """Half of the watchdog's period, as systemd advises."""
        return self.watchdog_s / 2 if self.watchdog_s else None

    def notify(self, **fields: object) -> bool:
        """Send fields, named as in sd_notify(3). Returns whether systemd got them; never waits, never raises."""
        if not self._address.startswith(("/", "@")):  # unset, or of a kind (vsock) that only guests of a VM have
            return False
        text = "\n".join(f"{name}={_one_line(value)}" for name, value in fields.items())
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto(text.encode("utf-8", "replace"), address)
        except OSError:
            return False
        return True

    def ready(self, status: str) -> bool:
        return self.notify(READY=1, STATUS=status, MAINPID=os.getpid())

    def status(self, text: str) -> bool:
        return self.notify(STATUS=text)

    def reloading(self) -> bool:
        """Before a reload; `ready` ends it. The instant is what `Type=notify-reload` asks for."""
        return self.notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)

    def stopping(self, status: str) -> bool:
        return self.notify(STOPPING=1, STATUS=status)

    def extend_timeout(self, more: timedelta) -> bool:
        """Ask for so much more time, from now, to start or to stop."""
        return self.notify(EXTEND_TIMEOUT_USEC=more // timedelta(microseconds=1))

    def watchdog(self) -> bool:
        return self.notify(WATCHDOG=1)


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    pid, usec = environ.get("WATCHDOG_PID", ""), environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000


def _one_line(value: object) -> str:
    """A newline would begin another field."""
    return " ".join(str(value).split())[:LONGEST_STATUS] if isinstance(value, str) else str(value)
