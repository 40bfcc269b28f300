"""The guardian: parent of one command or child process, which ends the whole tree when nobody may run it any more.

A script of its own, started as `python -I -S guardian.py FD LABEL`: the standard library only, few modules, up in some
15 ms. It is the subreaper of what it starts, so every descendant stays below it, also one that took a session of its
own. The tree is ended when the control pipe ends (the daemon is gone, however it died), when the lease is over by
CLOCK_BOOTTIME (the daemon sleeps, or lost its database), when it is told to, and when the main process has ended and
left others behind. The end is reported only when no process is left: waiting for any child answers ECHILD. As long as
one lives it holds `kids.lock` shared, so who gets that lock alone knows that all trees are gone. The daemon's side is
`guardians`.

Control pipe, a line each: `lease NS`, `kill GRACE_MS`. Status pipe, a line each: `refused WHY`, `failed ERRNO`,
`started PID`, `ended REASON STATUS PEAK_BYTES CPU_S SWEPT`; REASON is exit, kill, lease or gone, a negative STATUS is a
signal. FD holds the spec: fields parted by NUL, in the order of `Spec`.
"""

# pathlib would take as long to import as all the rest does:
# ruff: noqa: PTH123, PTH208
import ctypes
import fcntl
import os
import select
import signal
import sys
import time

CONTROL, STATUS, OUTPUT = 0, 1, 2  # the guardian's own descriptors
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
TFD_FLAGS, TFD_TIMER_ABSTIME = os.O_CLOEXEC | os.O_NONBLOCK, 1
NS = 1_000_000_000
FIRST_TO_DIE = b"500"  # oom_score_adj: short of memory, the kernel takes a job before the daemon
DEAF_TO = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
RESTORED = (*DEAF_TO, signal.SIGPIPE, signal.SIGXFSZ)  # ignored here, which a command would inherit

libc = ctypes.CDLL(None, use_errno=True)


class Spec:
    """What to run. The lease in ns of CLOCK_BOOTTIME, the grace in ms; an empty `cwd` is the daemon's own."""

    def __init__(self, fields: list[bytes]) -> None:
        rest = iter(fields)
        self.lock = next(rest)
        self.lease_ns = int(next(rest))
        self.grace_s = int(next(rest)) / 1000
        self.cwd = next(rest)
        self.argv = [next(rest) for _ in range(int(next(rest)))]
        self.env = dict(pair.split(b"=", 1) for pair in rest if pair)


class Lease:
    """When the right to run ends. Its timer counts CLOCK_BOOTTIME, so it also fires at the end of a suspension."""

    def __init__(self, until_ns: int) -> None:
        self.fd: int = libc.timerfd_create(time.CLOCK_BOOTTIME, TFD_FLAGS)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self.renew(until_ns)

    def renew(self, until_ns: int) -> None:
        self.until_ns = until_ns
        at = max(1, until_ns)  # nought would switch the timer off
        libc.timerfd_settime(self.fd, TFD_TIMER_ABSTIME, (ctypes.c_long * 4)(0, 0, at // NS, at % NS), None)

    @property
    def over(self) -> bool:
        return time.clock_gettime_ns(time.CLOCK_BOOTTIME) >= self.until_ns


class Tree:
    """Every process below this one: found, signalled, reaped, accounted."""

    def __init__(self) -> None:
        self.main = 0
        self.status: int | None = None  # of the main process, once it has ended
        self.peak = 0  # bytes, of the largest process
        self.cpu_s = 0.0
        self.struck: set[int] = set()

    def reap(self) -> bool:
        """Take in what has ended; whether any process is left."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if not pid:
                return True
            self.peak = max(self.peak, usage.ru_maxrss * 1024)
            self.cpu_s += usage.ru_utime + usage.ru_stime
            if pid == self.main:
                self.status = os.waitstatus_to_exitcode(status)

    def strike(self, *signals: int) -> bool:
        """Signal all of it; whether there was one not struck before, so that there may be more."""
        found = descendants(os.getpid())
        fresh = not self.struck.issuperset(found)
        for pid in found:
            for number in signals:
                try:
                    os.kill(pid, number)
                except OSError:  # gone already, or of another user: then it is waited for
                    break
        self.struck.update(found)
        return fresh


def descendants(of: int) -> list[int]:
    """Every process below `of`, parents first, as /proc shows them."""
    below: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    parent = int(file.read().rpartition(b")")[2].split(None, 2)[1])
            except OSError:  # ended while we looked
                continue
            below.setdefault(parent, []).append(int(name))
    found = [of]
    for pid in found:
        found += below.get(pid, ())
    return found[1:]


class Guardian:
    """From the start of one tree to the proof that nothing of it is left."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.lease = Lease(spec.lease_ns)
        self.tree = Tree()
        self.reason = "exit"
        self.kill_at: float | None = None  # monotonic; set once the tree is being ended
        self.pause_s = 0.0  # between two rounds of KILL
        self.heard = b""  # the beginning of a control line
        self.poll = select.poll()
        for fd in (CONTROL, self.lease.fd, wake_on_sigchld()):
            self.poll.register(fd, select.POLLIN)

    def run(self) -> None:
        self.listen()
        if self.lease.over or self.kill_at is not None:
            report(
                "refused", "its lease was over before it could start" if self.lease.over else "ended before it began"
            )
            return
        if failed := start(self.spec, self.tree):
            os.waitpid(self.tree.main, 0)
            report("failed", failed)
            return
        report("started", self.tree.main)
        while self.tree.reap():
            self.judge()
            self.poll.poll(self.patience_ms())
            self.listen()
        tree = self.tree
        report("ended", self.reason, tree.status, tree.peak, f"{tree.cpu_s:.4f}", len(tree.struck - {tree.main}))

    def judge(self) -> None:
        """Whether to end the tree now, and by what means."""
        if self.lease.over:
            self.end("lease", 0)
        if self.tree.status is not None and self.kill_at is None:
            self.end("exit", self.spec.grace_s)
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            fresh = self.tree.strike(signal.SIGKILL)
            self.pause_s = 0.0 if fresh else min(0.1, self.pause_s + 0.005)

    def end(self, reason: str, grace_s: float) -> None:
        """Begin the ladder, or shorten it. TERM wakes what is stopped, so that it can obey."""
        if self.tree.status is None and self.reason == "exit":
            self.reason = reason
        if self.kill_at is None and grace_s > 0 and self.tree.main:
            self.tree.strike(signal.SIGTERM, signal.SIGCONT)
        at = time.monotonic() + grace_s
        self.kill_at = at if self.kill_at is None else min(at, self.kill_at)

    def patience_ms(self) -> float | None:
        """How long to wait for news. The lease and the end of a child are news by themselves."""
        if self.kill_at is None:
            return None
        left = self.kill_at - time.monotonic()
        return (left if left > 0 else self.pause_s) * 1000 + 1

    def listen(self) -> None:
        """Take in wake-ups and obey the control pipe, whose end means that the daemon is gone."""
        for fd, _ in self.poll.poll(0):
            if fd == self.lease.fd:
                if self.lease.over:
                    self.poll.unregister(fd)
            elif came := os.read(fd, 4096):
                if fd == CONTROL:
                    *lines, self.heard = (self.heard + came).split(b"\n")
                    for line in lines:
                        self.obey(*line.split())
            else:
                self.poll.unregister(fd)
                self.end("gone", 0)

    def obey(self, order: bytes, number: bytes) -> None:
        if order == b"lease":
            self.lease.renew(int(number))
        elif order == b"kill":
            self.end("kill", int(number) / 1000)


def start(spec: Spec, tree: Tree) -> int:
    """Fork and execute; 0, or the errno that came instead."""
    reader, writer = os.pipe()
    guardian = os.getpid()
    tree.main = os.fork()
    if tree.main == 0:
        try:
            become(spec, guardian)
        except OSError as error:
            os.write(writer, str(error.errno).encode())
        finally:
            os._exit(127)
    os.close(writer)
    failed = int(os.read(reader, 16) or 0)
    os.close(reader)
    return failed


def become(spec: Spec, guardian: int) -> None:
    """In the child: a session of its own, dead with its guardian, plain signals, its descriptors; then execute."""
    os.setsid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != guardian:
        os._exit(127)
    signal.set_wakeup_fd(-1)
    for number in RESTORED:
        signal.signal(number, signal.SIG_DFL)
    yield_to_the_daemon()
    os.dup2(OUTPUT, 1)
    os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
    if spec.cwd:
        os.chdir(spec.cwd)
    os.execvpe(spec.argv[0], spec.argv, spec.env)  # noqa: S606  # no shell is meant


def yield_to_the_daemon() -> None:
    try:
        with open("/proc/self/oom_score_adj", "wb", 0) as file:
            file.write(FIRST_TO_DIE)
    except OSError:  # no right to lower it, where it is higher already
        return


def wake_on_sigchld() -> int:
    """A descriptor that can be read whenever a child has ended."""
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    return reader


def report(*words: object) -> None:
    try:
        os.write(STATUS, " ".join(map(str, words)).encode() + b"\n")
    except OSError:  # nobody is there to read it
        return


def main() -> None:
    with open(int(sys.argv[1]), "rb") as file:
        spec = Spec(file.read().split(b"\0"))
    for number in DEAF_TO:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # Only read, and there as a rule: the disk may be full or read-only.
    lock = os.open(spec.lock, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        report("refused", "another daemon is taking over this state directory")
        return
    Guardian(spec).run()


if __name__ == "__main__":
    main()
