"""The daemon's side of the guardians: starts them, prolongs their leases, hears how their trees ended.

What a guardian does and the two pipes' language are in `guardian`.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from jobsd.domain.outcome import Usage
from jobsd.engine.executors.output import Drain, Tail
from jobsd.engine.executors.strays import end_strays

SCRIPT = Path(__file__).with_name("guardian.py")
LOCK = "kids.lock"
TERMINAL = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # held back until a guardian is deaf to them


@dataclass(frozen=True, slots=True)
class Work:
    """A command for a guardian. `keep`: descriptors that it inherits under the same numbers."""

    label: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str | None
    grace_s: float  # for what outlives the main process
    output: int  # bytes of it to keep
    keep: tuple[int, ...] = ()

    def spec(self, lock: Path, lease_ns: int) -> bytes:
        """As `guardian.Spec` reads it. Raises `ValueError` for a NUL in any part."""
        pairs = [f"{name}={value}" for name, value in self.env.items()]
        numbers = (str(lease_ns), str(round(self.grace_s * 1000)))
        fields = (str(lock), *numbers, self.cwd or "", str(len(self.argv)), *self.argv, *pairs)
        if any("\0" in field for field in fields):
            raise ValueError("an argument, a variable or the folder holds the character U+0000")
        return b"\0".join(map(os.fsencode, fields))


@dataclass(frozen=True, slots=True)
class Ended:
    """No process is left. `reason` is exit, kill, lease or gone; a negative `status` is a signal."""

    reason: str
    status: int
    swept: int  # processes besides the main one that had to be ended


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Nothing ran: `error` is the system's, or `why` the guardian's."""

    errno: int = 0
    why: str = ""


@dataclass(frozen=True, slots=True)
class GuardianDied:
    """The guardian itself was ended; so was, by now, all that it guarded."""

    status: int


End = Ended | NotStarted | GuardianDied


class Guarded:
    """One guardian at work. `over` is done when it has ended, and with it the whole tree."""

    def __init__(self, work: Work, control: int) -> None:
        self.work = work
        self.over: asyncio.Future[End] = asyncio.get_running_loop().create_future()
        self.tail = Tail(work.output)
        self.pid: int | None = None  # of the main process, once it runs
        self._control = control
        self._heard = b""
        self._end: End | None = None
        self._usage = Usage()

    @property
    def usage(self) -> Usage:
        """What it has used and written so far; all of it once it is over."""
        peak, cpu, code = self._usage.peak_memory_bytes, self._usage.cpu_seconds, self._usage.exit_code
        return Usage(self.tail.text(), code, peak, cpu)

    def tell(self, line: bytes) -> None:
        """To the guardian, at once or not at all: it may be gone. From any thread, while it is among the living."""
        with suppress(OSError):
            os.write(self._control, line)

    def kill(self, grace_s: float) -> None:
        """Have the tree ended: TERM, then KILL. A guardian that somebody stopped is woken for it."""
        if not self.over.done():
            self.tell(b"kill %d\n" % round(grace_s * 1000))
            self.process.send_signal(signal.SIGCONT)

    def watch(self, process: "subprocess.Popen[bytes]", status: int, output: int) -> None:
        """Follow the guardian to its end, in this event loop."""
        self.process = process
        self._status = status
        self._drain = Drain(output, self.tail)
        self._exit = os.pidfd_open(process.pid)
        os.set_blocking(status, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(status, self._hear)
        self._loop.add_reader(self._exit, self._bury)

    def _hear(self) -> None:
        try:
            came = os.read(self._status, 4096)
        except BlockingIOError:
            return
        if not came:
            self._loop.remove_reader(self._status)
        *lines, self._heard = (self._heard + came).split(b"\n")
        for line in lines:
            self._note(*line.decode().split(" "))

    def _note(self, word: str, *facts: str) -> None:
        if word == "started":
            self.pid = int(facts[0])
        elif word == "refused":
            self._end = NotStarted(why=" ".join(facts))
        elif word == "failed":
            self._end = NotStarted(int(facts[0]))
        elif word == "ended":
            reason, status, peak, cpu, swept = facts
            self._end = Ended(reason, int(status), int(swept))
            code = int(status) if int(status) >= 0 else None
            self._usage = Usage(None, code, int(peak), float(cpu))

    def _bury(self) -> None:
        """The guardian has ended: take in what it said last."""
        status = self.process.wait()
        self._hear()
        for fd in (self._exit, self._status):
            self._loop.remove_reader(fd)
            os.close(fd)
        if self._end is not None:
            self._finish(self._end)
        else:
            self._sweeping = self._loop.create_task(self._sweep(status), name=f"sweep {self.work.label}")

    async def _sweep(self, status: int) -> None:
        """It was itself ended: see to it that nothing of its tree is left."""
        await end_strays(self.pid, self.work.env)
        self._finish(GuardianDied(status))

    def _finish(self, end: End) -> None:
        self._drain.finish()
        self.over.set_result(end)


class Guardians:
    """All guardians of this daemon. `state_dir` holds the lock that they share."""

    def __init__(self, state_dir: Path) -> None:
        self.lock_file = state_dir / LOCK
        self._lease_ns = 0
        self._living: dict[int, Guarded] = {}  # by the control pipe's descriptor
        self._lock = Lock()  # the lease is renewed from the lock session's thread

    def renew(self, until_ns: int) -> None:
        """Let all trees run until this instant of CLOCK_BOOTTIME, a past one: end them now. From any thread."""
        with self._lock:
            self._lease_ns = until_ns
            for guarded in self._living.values():
                guarded.tell(b"lease %d\n" % until_ns)

    def launch(self, work: Work) -> Guarded:
        """Start `work` under a guardian. Raises `OSError` or `ValueError` when not even that could be started."""
        with ExitStack() as undo, ExitStack() as theirs:
            orders, control = _pipe(reader=theirs, writer=undo)
            status, reports = _pipe(reader=undo, writer=theirs)
            output, writes = _pipe(reader=undo, writer=theirs)
            os.set_blocking(control, False)
            guarded = Guarded(work, control)
            lease_ns = self._adopt(guarded, control)
            undo.callback(self._forget, control)
            spec = in_memory(work.spec(self.lock_file, lease_ns))
            theirs.callback(os.close, spec)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, TERMINAL)
            try:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", SCRIPT, str(spec), work.label],
                    stdin=orders,
                    stdout=reports,
                    stderr=writes,
                    pass_fds=(spec, *work.keep),
                    env={},
                    start_new_session=True,
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            undo.pop_all()
        guarded.watch(process, status, output)
        guarded.over.add_done_callback(lambda _: self._forget(control, close=True))
        return guarded

    def _adopt(self, guarded: Guarded, control: int) -> int:
        """From here on its pipe is told of every lease; the one until now goes into its spec."""
        with self._lock:
            self._living[control] = guarded
            return self._lease_ns

    def _forget(self, control: int, *, close: bool = False) -> None:
        with self._lock:
            del self._living[control]
            if close:
                os.close(control)


def in_memory(data: bytes) -> int:
    """A descriptor from which `data` can be read once, and that no file system ever holds."""
    fd = os.memfd_create("jobsd")
    with open(fd, "wb", closefd=False) as file:
        file.write(data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _pipe(reader: ExitStack, writer: ExitStack) -> tuple[int, int]:
    """A pipe; each end is closed with the stack it is given to."""
    read, write = os.pipe()
    reader.callback(os.close, read)
    writer.callback(os.close, write)
    return read, write
