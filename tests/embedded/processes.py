"""A parent of an embedded server that can be killed: a program that starts one and says where it is."""

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg

PARENT = """
import json, signal, sys
from pathlib import Path
from jobsd import embedded
from tests.support.postgres import binaries

signal.signal(signal.SIGINT, signal.SIG_IGN)
server = embedded.start(Path(sys.argv[1]), binaries())
print(json.dumps({"url": server.url(), "postmaster": server.pid, "supervisor": server.supervisor.pid}), flush=True)
sys.stdin.read()
server.stop()
"""
PATIENCE_S = 30.0


@contextmanager
def parent(
    folder: Path, prefix: Sequence[str] = (), **options: Any
) -> Iterator[tuple["subprocess.Popen[str]", dict[str, Any]]]:
    """Run `PARENT`, under the command `prefix`; gives the process and what it said. Ended at the end."""
    argv = [*prefix, sys.executable, "-c", PARENT, str(folder)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            assert process.stdout
            said = process.stdout.readline()
            assert said, "the parent ended before its server was up"
            yield process, json.loads(said)
        finally:
            process.communicate()


def watch(pid: int) -> int:
    """A descriptor that turns readable when the process ends."""
    return os.pidfd_open(pid)


def ends(watched: int) -> bool:
    """Wait for the end of a watched process; False when it does not end."""
    try:
        return bool(select.select([watched], [], [], PATIENCE_S)[0])
    finally:
        os.close(watched)


def status(pid: int, key: str) -> list[str]:
    """A line of /proc/PID/status."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(line.split()[1:] for line in lines if line.startswith(f"{key}:"))


async def ask(url: str, query: str) -> Any:
    """One value from the server."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()
