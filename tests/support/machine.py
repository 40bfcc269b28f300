"""A machine of its own with a real systemd as its first process, in which jobsd is a service as it is shipped.

systemd-nspawn boots it on an overlay of this machine's root: what it writes is in memory and goes with it. Everything
lives in a mount namespace of its own, and its network is its own loopback. PostgreSQL is a server of the test's, whose
socket is mounted. Needs root, systemd-nspawn (Debian: systemd-container) and systemd.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
LOOK_S = 0.1
BASIC = "systemd.unit=basic.target"  # no service of this machine's own
# The tmpfs goes with the namespace, and that with its last process.
BOOT = """
set -e
mount -t tmpfs -o mode=755,size=256m tmpfs "$1/disk"
mkdir "$1/disk/work" "$1/disk/root"
cp -a "$1/files" "$1/disk/upper"
mount -t overlay -o "lowerdir=/,upperdir=$1/disk/upper,workdir=$1/disk/work" overlay "$1/disk/root"
folder=$1
shift
exec systemd-nspawn --quiet --boot --register=no --keep-unit --link-journal=no --resolv-conf=off --timezone=off \\
    --console=pipe --private-network --directory="$folder/disk/root" "$@"
"""
WRAPPER = """#!/bin/sh
PYTHONPATH=/opt/jobsd:/opt/packages exec /opt/python/bin/{python} -m jobsd "$@"
"""


def can_boot() -> str:
    """Why no machine can be booted here; empty if one can."""
    if shutil.which("systemd-nspawn") is None:
        return "systemd-nspawn is not installed (Debian: systemd-container)"
    return "" if os.geteuid() == 0 else "only root can boot a machine"


class Machine:
    """`files`: what it has besides this machine's own, by path."""

    def __init__(self, files: Mapping[str, str], database: Path) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobsd-m-"))
        (self.folder / "disk").mkdir()
        for path, text in {"/etc/machine-id": "", **files}.items():
            self._prepare(path, text)
        binds = {
            ROOT: "/opt/jobsd",
            sysconfig.get_path("purelib"): "/opt/packages",
            sys.base_prefix: "/opt/python",
        }
        mounts = [f"--bind-ro={here}:{there}" for here, there in binds.items()]
        command = ["unshare", "--mount", "--propagation=private", "sh", "-c", BOOT, "sh", str(self.folder)]
        self._log = (self.folder / "console").open("wb")
        self._nspawn = subprocess.Popen(
            [*command, *mounts, f"--bind={database}:/run/database", BASIC],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        self.until(lambda: self._first() is not None, "its first process")
        self.until(lambda: "running" in self.run("systemctl", "is-system-running", check=False), "its boot")

    def run(self, *command: str, check: bool = True) -> str:
        """A command in it, as its root, to its end; what it wrote to stdout, and to stderr if it is not checked."""
        done = subprocess.run(
            [
                "nsenter",
                f"--target={self._first()}",
                "--all",
                "--root",
                "--wd=/",
                "env",
                "-i",
                "PATH=" + _PATH,
                *command,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        if not check:
            return done.stdout + done.stderr
        if done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: {done.returncode}\n{done.stderr}{done.stdout}\n{self.journal()}"
            )
        return done.stdout

    def write(self, path: str, text: str) -> None:
        self.run("sh", "-c", 'mkdir -p "$(dirname "$0")" && printf %s "$1" > "$0"', path, text)

    def shown(self, *names: str) -> list[str]:
        """Properties of the service."""
        text = self.run("systemctl", "show", "jobsd", *(f"--property={name}" for name in names))
        found = dict(line.split("=", 1) for line in text.splitlines())
        return [found[name] for name in names]

    def jobsd(self, *args: str) -> Any:
        """What the command answers, as JSON."""
        return json.loads(self.run("jobsd", *args, "-o", "json"))

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "--lines=40", "--output=cat", check=False)

    def until(self, true: Callable[[], bool], wanted: str) -> None:
        """Look until it is so."""
        end_s = time.monotonic() + PATIENCE_S
        while not true():
            if time.monotonic() > end_s or self._nspawn.poll() is not None:
                raise AssertionError(f"never seen: {wanted}\n{(self.folder / 'console').read_text()}")
            time.sleep(LOOK_S)

    def close(self) -> None:
        """End it at once: with its first process all of it ends."""
        if first := self._first():
            os.kill(first, signal.SIGKILL)
        else:
            self._nspawn.kill()
        self._nspawn.wait()
        self._log.close()
        shutil.rmtree(self.folder)

    def _prepare(self, path: str, text: str) -> None:
        file = self.folder / "files" / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        file.write_text(text)
        file.chmod(0o755 if "/bin/" in path else 0o600 if path.endswith("environment") else 0o644)

    def _first(self) -> int | None:
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children")
        for pid in map(int, children.read_text().split()):
            if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                return pid
        return None


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def installed(jobs: str, more: Mapping[str, str]) -> dict[str, str]:
    """jobsd as docs/how-to/systemd.md says, with a registry."""
    shipped = ROOT / "systemd"
    return {
        "/etc/ld.so.conf.d/00-python.conf": "/opt/python/lib\n",  # before a libpython of the system's
        "/usr/local/bin/jobsd": WRAPPER.format(python=f"python{sys.version_info[0]}.{sys.version_info[1]}"),
        "/usr/lib/sysusers.d/jobsd.conf": (shipped / "jobsd.sysusers").read_text(),
        "/usr/lib/tmpfiles.d/jobsd.conf": (shipped / "jobsd.tmpfiles").read_text(),
        "/etc/systemd/system/jobsd.service": (shipped / "jobsd.service").read_text(),
        "/etc/jobsd/jobsd.toml": jobs,
        **more,
    }


@contextmanager
def machine(files: Mapping[str, str], database: Path) -> Iterator[Machine]:
    made = Machine(files, database)
    try:
        yield made
    finally:
        made.close()
