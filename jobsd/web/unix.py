"""The Unix socket's file: of the right mode before anybody can connect, and never taken from a live daemon."""

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobsd.domain.errors import Exit, JobsdError, problem
from jobsd.web.peers import peer_of

MODE = 0o660  # its group may operate jobsd
BACKLOG = 128


@contextmanager
def unix_socket(path: Path) -> Iterator[socket.socket]:
    """A socket that listens at `path` for the block. A file lock beside it stands for the daemon that has it.

    Raises E0405 (another daemon has it) and E0404 (permission, or something else is there).
    """
    lock = _locked(path)
    try:
        sock = _listening(path)
        try:
            mine = path.stat().st_ino
            yield sock
        finally:
            sock.close()
            with suppress(FileNotFoundError):
                if path.stat().st_ino == mine:
                    path.unlink()
    finally:
        os.close(lock)


def _locked(path: Path) -> int:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise _taken(path, _listener(path)) from None
    return lock


def _listening(path: Path) -> socket.socket:
    """Between bind and listen nobody can connect, so the mode is right from the first connection on."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _clear(path)
        sock.bind(str(path))
        path.chmod(MODE)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _unusable(path, error) from error
    except JobsdError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def _clear(path: Path) -> None:
    """Remove the socket that a dead daemon left."""
    try:
        there = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(there.st_mode):
        raise problem("E0404", f"{path} is there and is not a socket", "choose another: [http] socket")
    if (listener := _listener(path)) is not None:
        raise _taken(path, listener)
    path.unlink()


def _listener(path: Path) -> int | None:
    """The process id of whoever listens there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.settimeout(1)
            probe.connect(str(path))
        except OSError:
            return None
        return peer_of(probe)[0]


def _taken(path: Path, pid: int | None) -> JobsdError:
    by = f"pid {pid}" if pid else "another jobsd"
    return problem(
        "E0405",
        f"{by} listens on {path} already",
        "end it, or give this one its own: [http] socket and [daemon] state_dir",
        exit_code=Exit.CONFLICT,
    )


def _unusable(path: Path, error: OSError) -> JobsdError:
    why = error.strerror or str(error)
    return problem(
        "E0404",
        f"the socket {path} cannot be opened: {why.lower()}",
        "choose another place: [http] socket",
        exit_code=Exit.PERMISSION,
    )
