"""Is it well? What the daemon knows of itself, what the database answers, and the verdict on both.

`/livez` says that the event loop answers, `/readyz` that work gets done, `/healthz` how well and what to do about it.
"""

import os
import resource
import shutil
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, Field

from jobsd.web.vitals import Answer, Reload, Unwritten, Vitals

SLOW_S = 0.5
BACKLOG_S = 300.0  # a due run of an enabled job should not wait longer
UNWRITTEN_S = 5.0  # a settlement should not wait longer for the database
DISK_LOW, DISK_CRITICAL = 0.10, 0.05  # free
MEMORY_HIGH, MEMORY_CRITICAL = 500 << 20, 2000 << 20  # resident bytes of the daemon itself


class Verdict(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"  # work gets done, something needs a look
    CRITICAL = "critical"  # work does not get done, or soon will not


class Component(BaseModel):
    """One part of the whole, with its figures."""

    verdict: Verdict
    text: str
    figures: Mapping[str, float | int | str | bool | None] = {}


class Health(BaseModel):
    """The verdict on the whole is that of its worst part."""

    verdict: Verdict
    components: Mapping[str, Component]
    recommendations: list[str] = Field(description="what to do, the worst first")


class Alive(BaseModel):
    alive: bool = True


class Check(BaseModel):
    ok: bool
    text: str


class Loop(BaseModel):
    advances: bool
    age_s: float = Field(description="seconds since it last advanced")
    limit_s: float = Field(description="past that it counts as hung")


class Readiness(BaseModel):
    ready: bool
    checks: Mapping[str, Check]
    loops: Mapping[str, Loop]


def readiness(vitals: Vitals, answer: Answer) -> Readiness:
    """Ready is who gets work done: loops advance, the lock session is up, the database answers, and no drain is on."""
    standing = [f"{name} for {loop.age_s:.0f} s" for name, loop in vitals.loops.items() if not loop.advances]
    checks = {
        "loops": Check(ok=not standing and bool(vitals.loops), text=_loops_text(vitals, standing)),
        "lock_session": Check(ok=vitals.lock_session_up, text="up" if vitals.lock_session_up else "down"),
        "database": Check(ok=not answer.error, text="does not answer" if answer.error else "answers"),
        "draining": Check(ok=not vitals.draining, text="draining" if vitals.draining else "no"),
    }
    loops = {
        name: Loop(advances=loop.advances, age_s=round(loop.age_s, 1), limit_s=loop.allowed_s)
        for name, loop in vitals.loops.items()
    }
    return Readiness(ready=all(check.ok for check in checks.values()), checks=checks, loops=loops)


def _loops_text(vitals: Vitals, standing: Sequence[str]) -> str:
    if not vitals.loops:
        return "none has started yet"
    return f"standing still: {', '.join(standing)}" if standing else "all advance"


def health(vitals: Vitals, answer: Answer) -> Health:
    """All components, each judged by itself."""
    components = {
        "database": _database(answer),
        "lock_session": _lock_session(vitals),
        "loops": _loops(vitals),
        "queue": _queue(answer),
        "settlements": _settlements(vitals.unwritten),
        "disk": _disk(vitals.state_dir),
        "memory": _memory(),
        "log": _log(vitals.log_lines_lost),
        "reload": _reload(vitals.reload),
    }
    worst = max((part.verdict for part in components.values()), key=list(Verdict).index)
    ordered = sorted(components.items(), key=lambda item: -list(Verdict).index(item[1].verdict))
    return Health(
        verdict=worst,
        components=components,
        recommendations=[WAYS_OUT[name] for name, part in ordered if part.verdict is not Verdict.HEALTHY],
    )


WAYS_OUT: Mapping[str, str] = {
    "database": "is PostgreSQL up and reachable? runs under way go on meanwhile, nothing new starts",
    "lock_session": "look for the reason in the log; without its lock session this node starts nothing",
    "loops": "a loop stands still: see what blocks it with SIGUSR1 and the log; systemd restarts a hung daemon",
    "queue": "runs wait: more [daemon] slots or another node; jobsd job why JOB tells what holds one back",
    "settlements": "the database takes no outcomes: is its disk full, is it read-only? they are kept, with their locks",
    "disk": "make room on the disk of the state directory, and let the daemon write there",
    "memory": 'the daemon itself grows: jobs that need much belong in a process of their own (isolation = "process")',
    "log": "what reads the daemon's stderr is slow or gone, or its disk is full; jobs go on, lines of the log are lost",
    "reload": "the edited configuration was refused, the old one is in force: jobsd check",
}


def _database(answer: Answer) -> Component:
    if answer.error:
        return Component(verdict=Verdict.CRITICAL, text=f"does not answer: {answer.error}")
    slow = answer.took_s > SLOW_S
    verdict = Verdict.DEGRADED if slow else Verdict.HEALTHY
    return Component(verdict=verdict, text="answers slowly" if slow else "answers", figures={"took_s": answer.took_s})


def _lock_session(vitals: Vitals) -> Component:
    verdict = Verdict.HEALTHY if vitals.lock_session_up else Verdict.CRITICAL
    return Component(verdict=verdict, text="up" if vitals.lock_session_up else "down")


def _loops(vitals: Vitals) -> Component:
    standing = [name for name, loop in vitals.loops.items() if not loop.advances]
    well = not standing and vitals.loops
    return Component(
        verdict=Verdict.HEALTHY if well else Verdict.CRITICAL,
        text=_loops_text(vitals, standing),
        figures={
            **{f"{name}_age_s": loop.age_s for name, loop in vitals.loops.items()},
            **({} if vitals.canary_s is None else {"canary_took_s": vitals.canary_s}),
        },
    )


def _queue(answer: Answer) -> Component:
    if answer.depth is None:
        return Component(verdict=Verdict.DEGRADED, text="not known while the database does not answer")
    depth = answer.depth
    late = depth.oldest_due_s > BACKLOG_S
    text = f"{depth.due} due, {depth.later} for later, {depth.running} running"
    return Component(
        verdict=Verdict.DEGRADED if late else Verdict.HEALTHY,
        text=text + (f"; the oldest has been due for {depth.oldest_due_s:.0f} s" if late else ""),
        figures={
            "due": depth.due,
            "later": depth.later,
            "running": depth.running,
            "oldest_due_s": depth.oldest_due_s,
        },
    )


def _settlements(unwritten: Unwritten) -> Component:
    late = unwritten.oldest_s > UNWRITTEN_S
    text = f"{unwritten.count} to be written" if unwritten.count else "all written"
    text += f", the oldest for {unwritten.oldest_s:.0f} s" if late else ""
    text += f"; the database refuses: {unwritten.refused}" if unwritten.refused else ""
    text += f"; not kept on disk: {unwritten.spool_error}" if unwritten.spool_error else ""
    return Component(
        verdict=Verdict.DEGRADED if late or unwritten.spool_error else Verdict.HEALTHY,
        text=text,
        figures={"unwritten": unwritten.count, "spooled": unwritten.spooled, "oldest_s": unwritten.oldest_s},
    )


def _disk(folder: Path) -> Component:
    try:
        usage = shutil.disk_usage(folder)
    except OSError as error:
        return Component(verdict=Verdict.CRITICAL, text=f"the state directory cannot be read: {error.strerror}")
    free = usage.free / usage.total if usage.total else 0.0
    text = f"{free:.0%} free"
    figures = {"free_bytes": usage.free, "total_bytes": usage.total}
    if not os.access(folder, os.W_OK):
        text = "the state directory cannot be written to: outcomes that wait for the database are in memory alone"
        return Component(verdict=Verdict.DEGRADED, text=text, figures=figures)
    return Component(verdict=_below(free, DISK_LOW, DISK_CRITICAL), text=text, figures=figures)


def _memory() -> Component:
    resident = resident_bytes()
    text = f"{resident / (1 << 20):.0f} MiB"
    verdict = _below(-resident, -MEMORY_HIGH, -MEMORY_CRITICAL)
    return Component(verdict=verdict, text=text, figures={"resident_bytes": resident})


def resident_bytes() -> int:
    """Memory that this process holds just now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _log(lost: int) -> Component:
    if not lost:
        return Component(verdict=Verdict.HEALTHY, text="is written")
    return Component(verdict=Verdict.DEGRADED, text=f"{lost} lines were lost", figures={"lost": lost})


def _reload(last: Reload | None) -> Component:
    if last is None:
        return Component(verdict=Verdict.HEALTHY, text="not since the start")
    verdict = Verdict.HEALTHY if last.ok else Verdict.DEGRADED
    return Component(verdict=verdict, text=last.text, figures={"at": last.at.isoformat(), "ok": last.ok})


def _below(value: float, low: float, critical: float) -> Verdict:
    if value < critical:
        return Verdict.CRITICAL
    return Verdict.DEGRADED if value < low else Verdict.HEALTHY
