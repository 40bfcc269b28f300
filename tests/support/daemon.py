"""A real daemon: a process of its own, started on a registry, watched through its log and through sd_notify.

Nothing here sleeps: a test waits for a log line, for a notification, for a line that a job wrote into the named pipe
`traces` of its working directory, or for the end of the process.
"""

import asyncio
import fcntl
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp

PATIENCE_S = 30.0  # how long anything awaited may take before the test fails, with the log's end
ROOT = Path(__file__).resolve().parents[2]
Line = dict[str, Any]


class Daemon:
    """`jobsd serve` on `jobs` (TOML text) and `settings` (tables of jobsd.toml), with a state directory of its own.

    `start` may be called again after `stop` or `kill9`; the log goes on.
    """

    def __init__(
        self,
        url: str,
        jobs: str = "",
        settings: Mapping[str, Mapping[str, object]] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="jobsd-d-"))  # short: a socket's path has 107 characters
        self.state_dir = self.folder / "state"
        self.socket = self.state_dir / "jobsd.sock"
        self.config = self.folder / "jobsd.toml"
        ours = {"DATABASE_URL": url, "NOTIFY_SOCKET": str(self.folder / "notify"), "PYTHONPATH": str(ROOT)}
        self.environ = {**ours, **(environ or {})}
        self.settings = settings or {}
        self.lines: list[Line] = []
        self.said: list[str] = []  # what is on stderr and no log line
        self.notes: list[tuple[str, str]] = []
        self.traces: list[str] = []  # what jobs wrote
        self._changed = asyncio.Condition()
        self._ended = True
        self._process: asyncio.subprocess.Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._tracing: asyncio.Task[None] | None = None
        self.state_dir.mkdir()
        os.mkfifo(self.folder / "traces")
        self.write(jobs)

    def write(self, jobs: str) -> None:
        """Write the registry anew, for the next start or reload."""
        tables: dict[str, Mapping[str, object]] = {
            "daemon": {"state_dir": str(self.state_dir)},
            "http": {"port": 0, "socket": str(self.socket)},
            "log": {"format": "json", "level": "debug"},
        }
        for name, table in self.settings.items():
            tables[name] = {**tables.get(name, {}), **table}
        self.config.write_text("\n".join(_table(name, table) for name, table in tables.items()) + "\n" + jobs)

    @property
    def process(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise AssertionError("the daemon has not been started")
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    async def start(self, *, ready: bool = True) -> None:
        """Start it and wait for READY; without `ready` only start it."""
        self.notes.clear()
        self._ended = False
        notify = _listen(self.folder / "notify")
        self._tracing = self._tracing or asyncio.create_task(self._read_traces())
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("JOBSD_") and k != "DATABASE_URL"}
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "jobsd", "serve", "--config", str(self.config)),
            env={**inherited, **self.environ},
            cwd=self.folder,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        self._readers = [asyncio.create_task(self._read_log()), asyncio.create_task(self._read_notes(notify))]
        if ready:
            await self.notified("READY", "1")

    async def seen(self, event: str, /, *, times: int = 1, patience_s: float = PATIENCE_S, **fields: object) -> Line:
        """Wait until the log holds `times` lines of `event` with these fields; the last of them."""

        def found() -> list[Line]:
            return [line for line in self.lines if line.get("event") == event and fields.items() <= line.items()]

        await self._until(lambda: len(found()) >= times, f"{event} {fields} x{times}", patience_s)
        return found()[times - 1]

    async def notified(self, key: str, value: str | None = None) -> str:
        """Wait for a notification of the service manager's protocol; its value."""

        def found() -> list[str]:
            return [v for k, v in self.notes if k == key and value in (None, v)]

        await self._until(lambda: bool(found()), f"{key}={value or '…'}")
        return found()[0]

    async def traced(self, start: str, *, times: int = 1) -> list[str]:
        """Wait until jobs have written so many lines that begin with these words; what follows the words in each."""

        def found() -> list[str]:
            return [line.removeprefix(start).strip() for line in self.traces if f"{line} ".startswith(f"{start} ")]

        await self._until(lambda: len(found()) >= times, f"trace {start} x{times}")
        return found()

    async def trigger(self, job: str, **body: object) -> int:
        """Ask for a run; its id."""
        status, answer = await self.request("POST", f"/api/v1/jobs/{job}/runs", body)
        assert status == 201, answer
        return int(answer["id"])

    def release(self, name: str = "go") -> None:
        """Make the file that jobs wait for."""
        (self.folder / name).touch()

    async def request(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Ask its API over the Unix socket; the status and the decoded answer."""
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(self.socket)), timeout=aiohttp.ClientTimeout(PATIENCE_S)
            ) as session,
            session.request(method, f"http://jobsd{path}", json=body) as response,
        ):
            text = await response.text()
            return response.status, json.loads(text) if "json" in response.content_type else text

    def log_reading(self, *, on: bool) -> None:
        """Stop reading what it logs, as a reader does that hangs; or go on."""
        stderr: Any = self.process._transport.get_pipe_transport(2)  # type: ignore[attr-defined]
        (stderr.resume_reading if on else stderr.pause_reading)()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def stop(self) -> int:
        """Ask it to end (TERM) and wait; its exit status."""
        self.signal(signal.SIGTERM)
        return await self.exited()

    async def kill9(self) -> None:
        self.signal(signal.SIGKILL)
        await self.exited()

    async def exited(self) -> int:
        """Wait for its end; the exit status."""
        async with asyncio.timeout(PATIENCE_S):
            await self.process.wait()
            await self._readers[0]
        self._readers[1].cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        return self.process.returncode or 0

    async def children_gone(self) -> None:
        """Wait until no process of its runs is left: each holds a share of a file lock."""
        with suppress(FileNotFoundError), (self.state_dir / "kids.lock").open() as kids:
            async with asyncio.timeout(PATIENCE_S):
                while not _free(kids.fileno()):
                    await asyncio.sleep(0.02)

    async def close(self) -> None:
        if self._process is not None:
            if self._process.returncode is None:
                self.signal(signal.SIGKILL)
            await self.exited()
        await self.children_gone()
        if self._tracing is not None:
            self._tracing.cancel()
            await asyncio.gather(self._tracing, return_exceptions=True)
        shutil.rmtree(self.folder)

    async def _read_log(self) -> None:
        stream = self.process.stderr
        while stream and (line := await stream.readline()):
            async with self._changed:
                try:
                    self.lines.append(json.loads(line))
                except ValueError:
                    self.said.append(line.decode(errors="replace").rstrip())
                self._changed.notify_all()
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def _read_notes(self, notify: socket.socket) -> None:
        with notify:
            while True:
                message = await asyncio.get_running_loop().sock_recv(notify, 1 << 16)
                async with self._changed:
                    for line in message.decode().splitlines():
                        key, _, value = line.partition("=")
                        self.notes.append((key, value))
                    self._changed.notify_all()

    async def _read_traces(self) -> None:
        """Open for both, so that no job ever waits for us to open, and the end of a writer is not the end."""
        stream = asyncio.StreamReader()
        pipe = os.fdopen(os.open(self.folder / "traces", os.O_RDWR | os.O_NONBLOCK), "rb", 0)  # the transport closes it
        protocol = asyncio.StreamReaderProtocol(stream)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        try:
            while line := await stream.readline():
                async with self._changed:
                    self.traces.append(line.decode().strip())
                    self._changed.notify_all()
        finally:
            transport.close()

    async def _until(self, true: Callable[[], bool], wanted: str, patience_s: float = PATIENCE_S) -> None:
        try:
            async with asyncio.timeout(patience_s), self._changed:
                await self._changed.wait_for(lambda: true() or self._ended)
        except TimeoutError:
            pass
        if not true():
            ended = f"it ended with {self.process.returncode}; " if self._ended else ""
            raise AssertionError(f"{ended}never seen: {wanted}\n" + self.log_end())

    def log_end(self, lines: int = 30) -> str:
        return "\n".join([*self.said[-lines:], *(json.dumps(line) for line in self.lines[-lines:])])


def _free(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    notify.bind(str(path))
    notify.setblocking(False)
    return notify


def _table(name: str, table: Mapping[str, object]) -> str:
    return "\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())])
