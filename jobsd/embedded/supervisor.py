"""Runs one PostgreSQL server for one parent: a program of its own, run as `python -I -S supervisor.py JSON`.

It makes the cluster when there is none, starts `postgres`, says so in one JSON line on stdout, and waits. When its
stdin ends, and it ends however the parent dies, the server is shut down fast. Should the supervisor itself be killed,
the kernel tells the server (PR_SET_PDEATHSIG). Signals of the terminal and of a service manager are not for it: the
daemon drains first, and the database goes last.

The server's log is locked through the descriptor that every process of the server inherits: the lock is free when,
and only when, none of them is left. PostgreSQL refuses to be root, so root becomes somebody else first.

Standard library only, so that it starts in milliseconds and holds little.
"""

import ctypes
import fcntl
import json
import os
import pwd
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LOG_LIMIT_BYTES = 10 * 1024 * 1024
PREDECESSOR_S = 30.0  # how long a server that is ending already may still take
FAST_S, IMMEDIATE_S = 30.0, 5.0  # how long each kind of shutdown may take before the next, harder one
CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522

libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """The server cannot be started; worded for the person."""


def main(order: Mapping[str, Any]) -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    folder, binaries = Path(order["folder"]), Path(order["binaries"])
    try:
        log = open_log(folder)
        clear_predecessor(folder, Path(order["socket_dir"]), log)
        begin = os.fstat(log).st_size
        become_unprivileged(folder)
        version = version_of(binaries)
        ensure_cluster(folder, binaries, version, durable=order["settings"].get("fsync") != "off", log=log)
        postmaster = start(folder, binaries, order["settings"], log)
        ready = wait_ready(folder, postmaster)
    except (Refused, OSError, subprocess.SubprocessError) as trouble:
        say(error=str(trouble))
        return 1
    if ready:
        say(pid=postmaster.pid, version=version)
        ended(postmaster, wait_ms=None)
    else:
        say(error=last_words(folder, begin))
    shut_down(postmaster)
    tidy(order)
    return 0 if ready else 1


def say(**facts: object) -> None:
    """Tell the parent, if it still listens, and leave its pipe."""
    with suppress(BrokenPipeError):
        os.write(1, json.dumps(facts).encode() + b"\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def tidy(order: Mapping[str, Any]) -> None:
    if order["socket_dir"] != order["folder"]:
        shutil.rmtree(order["socket_dir"], ignore_errors=True)
    if order["temporary"]:
        shutil.rmtree(order["folder"], ignore_errors=True)


def open_log(folder: Path) -> int:
    log = os.open(folder / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    return log


# A predecessor


def clear_predecessor(folder: Path, socket_dir: Path, log: int) -> None:
    """End a server that is left on this folder, wait for its last process, remove what it left lying."""
    pid = left_running(folder / "data")
    if pid:
        end_process(pid)
    deadline = time.monotonic() + PREDECESSOR_S
    while not locked(log):
        if time.monotonic() > deadline:
            raise Refused(f"processes of an earlier server still use {folder}")
        time.sleep(0.02)
    if os.fstat(log).st_size > LOG_LIMIT_BYTES:
        os.ftruncate(log, 0)
    # Nobody of ours lives, so these are stale, even where their number now belongs to another process.
    for stale in (folder / "data" / "postmaster.pid", *socket_dir.glob(".s.PGSQL.*")):
        stale.unlink(missing_ok=True)


def locked(log: int) -> bool:
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def left_running(data: Path) -> int | None:
    """The process that postmaster.pid names, if it truly is a server at work in this folder."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        return pid if Path(f"/proc/{pid}/cwd").samefile(data) else None
    except (OSError, ValueError):
        return None


def end_process(pid: int) -> None:
    watch = os.pidfd_open(pid)
    for number, patience_s in ((signal.SIGINT, FAST_S), (signal.SIGQUIT, IMMEDIATE_S), (signal.SIGKILL, IMMEDIATE_S)):
        signal.pidfd_send_signal(watch, number)
        if select.select([watch], [], [], patience_s)[0]:
            break
    os.close(watch)


# Not being root


def become_unprivileged(folder: Path) -> None:
    """Stop being root, for good, without opening a single file or folder to anybody else.

    A folder of some other user is served as that user. Else a user namespace in which root has another number will
    do: files stay root's own. Where the kernel forbids namespaces (containers often do) the server runs as an
    ordinary user that may pass closed folders, and the folder above its data stays root's, so that nobody else does.
    """
    if os.geteuid() != 0:
        return
    owner, stand_in = folder.stat().st_uid, somebody()
    if owner:
        become(owner, folder.stat().st_gid)
        return
    try:
        give(folder, 0, 0)
        enter_namespace(stand_in)
    except OSError:
        folder.chmod(0o700)
        give(folder, stand_in.pw_uid, stand_in.pw_gid)
        keep_passing_folders(stand_in)


def somebody() -> pwd.struct_passwd:
    """A user that has a name (initdb asks for it) and is not root."""
    try:
        return pwd.getpwnam("nobody")
    except KeyError:
        return next(user for user in pwd.getpwall() if user.pw_uid)


def give(folder: Path, uid: int, gid: int) -> None:
    """Make `uid` the owner of the cluster and the log in a folder that stays root's."""
    for top in (folder / "data", folder / "log"):
        if top.exists() and top.stat().st_uid != uid:
            for path in (top, *top.rglob("*")):
                os.chown(path, uid, gid, follow_symlinks=False)


def enter_namespace(stand_in: pwd.struct_passwd) -> None:
    check(libc.unshare(CLONE_NEWUSER))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{stand_in.pw_uid} 0 1")
    Path("/proc/self/gid_map").write_text(f"{stand_in.pw_gid} 0 1")


def become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def keep_passing_folders(user: pwd.struct_passwd) -> None:
    check(libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    become(user.pw_uid, user.pw_gid)
    bit = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; low words, high words
    check(libc.capset(header, sets))
    check(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0))


def check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


# The cluster and its server


def version_of(binaries: Path) -> str:
    said = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"\d+(\.\d+)?", said)
    if not number:
        raise Refused(f"{binaries / 'postgres'} does not tell its version: {said!r}")
    return number[0]


def ensure_cluster(folder: Path, binaries: Path, version: str, durable: bool, log: int) -> None:
    """Make the cluster beside its place and move it there when it is whole: half a cluster is never taken for one."""
    data, fresh = folder / "data", folder / "data.new"
    if data.exists():
        made_by = (data / "PG_VERSION").read_text().strip()
        if made_by != version.split(".", maxsplit=1)[0]:
            raise Refused(f"{data} was made by PostgreSQL {made_by}; this is {version}")
        return
    shutil.rmtree(fresh, ignore_errors=True)
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--data-checksums"]
    argv = [str(binaries / "initdb"), "-D", str(fresh), *options, *([] if durable else ["--no-sync"])]
    made = subprocess.run(
        argv, env={"LC_ALL": "C"}, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    os.write(log, (made.stdout + made.stderr).encode())
    if made.returncode:
        raise Refused(f"initdb failed: {made.stderr.strip()}")
    fresh.rename(data)


def start(folder: Path, binaries: Path, settings: Mapping[str, str], log: int) -> "subprocess.Popen[bytes]":
    argv = [str(binaries / "postgres"), "-D", str(folder / "data")]
    for name, value in settings.items():
        argv += ["-c", f"{name}={value}"]
    supervisor = os.getpid()

    def end_with_us() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != supervisor:
            os._exit(1)

    return subprocess.Popen(
        argv,
        env={"LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        preexec_fn=end_with_us,  # noqa: PLW1509 - safe: this program has one thread
    )


def wait_ready(folder: Path, postmaster: "subprocess.Popen[bytes]") -> bool:
    """Whether the server came up: its own line in postmaster.pid says so. False when it, or the parent, ended."""
    status = folder / "data" / "postmaster.pid"
    while not ended(postmaster, wait_ms=5):
        lines = status.read_text().split("\n") if status.exists() else []
        if len(lines) > 7 and lines[0] == str(postmaster.pid) and lines[7].strip() == "ready":
            return True
    return False


def ended(postmaster: "subprocess.Popen[bytes]", wait_ms: int | None) -> bool:
    """Whether the parent has gone (stdin ended) or the server has."""
    poll = select.poll()
    poll.register(0, 0)  # only the end of it is of interest
    watch = os.pidfd_open(postmaster.pid)
    poll.register(watch, select.POLLIN)
    try:
        return bool(poll.poll(wait_ms))
    finally:
        os.close(watch)


def shut_down(postmaster: "subprocess.Popen[bytes]") -> None:
    if postmaster.poll() is None:
        end_process(postmaster.pid)
        postmaster.wait()


def last_words(folder: Path, begin: int) -> str:
    with (folder / "log").open("rb") as log:
        log.seek(begin)
        lines = log.read().decode(errors="replace").splitlines()
    told = [line for line in lines if "FATAL" in line or "PANIC" in line or "HINT" in line]
    return "\n".join(told or lines[-5:]) or "the server ended without a word"


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
