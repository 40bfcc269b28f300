"""The state directory: one daemon at a time holds it, and that lock proves that an earlier start of it is gone."""

import fcntl
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobsd import __version__
from jobsd.domain.errors import Exit, problem
from jobsd.registry.settings import Settings
from jobsd.store.nodes import Identity

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SYSTEM = Path("/var/lib/jobsd")
LOCK = "daemon.lock"
OPENED = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW  # a link in its place might lead to another's file
KIDS = "kids.lock"  # every guardian holds it shared while it guards anything


def state_dir(settings: Settings) -> Path:
    """Where lock files are: as configured, else as systemd says, else /var/lib/jobsd."""
    given = settings.daemon.state_dir or os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    return Path(given).resolve() if given else SYSTEM


@contextmanager
def held(folder: Path) -> Iterator[str]:
    """Hold the state directory for the block; gives the id that is kept in it. Raises E0405, E0406.

    Also waits until every process that an earlier daemon's commands left has been ended by its guardian.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.stat().st_mode & stat.S_IWOTH:
            raise _open_to_all(folder)
        lock = os.open(folder / LOCK, OPENED, 0o600)
    except OSError as error:
        raise _unusable(folder, error) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _taken(folder, lock) from None
        with suppress(OSError):  # it is told to whoever comes second; a full disk is no reason not to start
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        try:
            _wait_for_guardians(folder)
            instance = _instance(folder)
        except OSError as error:
            raise _unusable(folder, error) from error
        yield instance
    finally:
        os.close(lock)


def _wait_for_guardians(folder: Path) -> None:
    """Past this point no process of an earlier start is left: each guardian kept the lock until its tree was gone."""
    kids = os.open(folder / KIDS, OPENED, 0o600)
    try:
        fcntl.flock(kids, fcntl.LOCK_EX)
    finally:
        os.close(kids)


def _instance(folder: Path) -> str:
    file = folder / "instance"
    if not file.exists():
        fresh = folder / "instance.new"
        fresh.write_text(secrets.token_hex(16))
        fresh.rename(file)
    return file.read_text().strip()


def _taken(folder: Path, lock: int) -> Exception:
    pid = os.pread(lock, 20, 0).decode(errors="replace").strip() or "?"
    return problem(
        "E0405",
        f"another jobsd (pid {pid}) uses the state directory {folder}",
        "one daemon a state directory: stop that one, or set another [daemon] state_dir",
        exit_code=Exit.BAD_START,
    )


def _open_to_all(folder: Path) -> Exception:
    return problem(
        "E0406",
        f"the state directory {folder} can be written by anyone (mode {stat.S_IMODE(folder.stat().st_mode):04o})",
        f"whoever writes there decides what this daemon believes: chmod o-w {folder}",
        "or set [daemon] state_dir to a folder below it, which is made with mode 0700",
        exit_code=Exit.BAD_START,
    )


def _unusable(folder: Path, error: OSError) -> Exception:
    return problem(
        "E0406",
        f"the state directory {folder} cannot be used: {error.strerror}",
        "set [daemon] state_dir to a folder that this user may write to",
        exit_code=Exit.BAD_START,
    )


def identity(settings: Settings, instance: str) -> Identity:
    """Who this daemon is."""
    host = socket.gethostname()
    return Identity(settings.daemon.name or host, host, instance, BOOT_ID.read_text().strip(), os.getpid(), __version__)
