"""A wall clock that a test sets while processes read it (libfaketime). Monotonic clocks go on as they do."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobsd import embedded
from jobsd.embedded.binaries import installed
from jobsd.store.migrate import migrate
from tests.support.postgres import binaries

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
needs_faketime = pytest.mark.skipif(LIBRARY is None, reason="needs the Debian package libfaketime")


class Clock:
    """One clock for whoever runs in `environ`. `folder`: one that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._folder = folder
        self.set(0)

    def set(self, offset_s: int) -> None:
        """Show the true time and so many seconds, from now on."""
        fresh = self._folder / "clock.new"
        fresh.write_text(f"{offset_s:+d}\n")
        fresh.chmod(0o644)
        fresh.rename(self._file)

    @property
    def environ(self) -> Mapping[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "NO_FAKE_STAT": "1",  # the times of files are as they are, and reading them costs nothing more
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # else the event loop stands still when the clock goes back
        }

    @contextmanager
    def server(self) -> Iterator[embedded.Server]:
        """A PostgreSQL that goes by this clock."""
        running = embedded.start(self._folder / "server", self._programs(), {"fsync": "off"})
        try:
            yield running
        finally:
            running.stop()
            shutil.rmtree(self._folder / "server")

    def _programs(self) -> Path:
        """The server's programs, of which `postgres` itself reads this clock."""
        true, folder = binaries() or installed(), self._folder / "bin"
        folder.mkdir()
        words = " ".join(f"{name}={value}" for name, value in self.environ.items())
        for name, env in (("initdb", ""), ("postgres", f"env {words} ")):
            (folder / name).write_text(f'#!/bin/sh\nexec {env}{true / name} "$@"\n')
            (folder / name).chmod(0o755)
        return folder


async def database(server: embedded.Server, name: str = "jobsd") -> str:
    """A migrated database of a server; its URL."""
    await server.create_database(name)
    await migrate(server.url(name))
    return server.url(name)
