"""Mistakes that show only when one looks at more than one key: schedules, names of other jobs, lock keys, times."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta

from jobsd.domain.alert import LOG
from jobsd.domain.destination import host_of, literal, refusal
from jobsd.domain.duration import format_duration
from jobsd.domain.errors import Place, Problem, did_you_mean
from jobsd.domain.job import FREE_SIGNALS, JobDefinition
from jobsd.domain.lock_key import fields
from jobsd.domain.mistakes import FORMS, mistakes
from jobsd.domain.schedule import Schedule, ScheduleError, schedule_of
from jobsd.registry.files import Part
from jobsd.registry.positions import Path, dotted
from jobsd.registry.settings import Settings
from jobsd.registry.sources import Sources

HEADWAY = timedelta(seconds=2)  # between the last process of a dead node and the first of its rescuer
Jobs = Mapping[str, JobDefinition]


def schedules(jobs: Jobs, sources: Sources, problems: list[Problem]) -> dict[str, Schedule]:
    """The schedule of every job whose schedule is right; the mistakes of the others go to `problems`."""
    found = {}
    for name, job in jobs.items():
        try:
            found[name] = schedule_of(job.schedule)
        except ScheduleError:
            if job.schedule:
                formless = _has_lost_its_form(name, problems)
                told = (error for error in mistakes(job.schedule) if not (formless and error.code == "E0206"))
                problems.extend(_of_schedule(name, error, sources) for error in told)
    return found


def _has_lost_its_form(job: str, problems: Sequence[Problem]) -> bool:
    """Whether a key of the job's schedule that may have been its form was put aside, and told, for a mistake of it."""
    table = f"jobs.{job}.schedule"
    starts = tuple(f"{table}.{form}" for form in FORMS)
    return any(
        (p.code == "E0204" and f"[{table}]" in p.message) or (p.code == "E0205" and p.message.startswith(starts))
        for p in problems
    )


def _of_schedule(job: str, error: ScheduleError, sources: Sources) -> Problem:
    steps = (int(step) if step.isdigit() else step for step in error.field.split(".") if step)
    path: Path = ("jobs", job, "schedule", *steps)
    within = None if error.offset is None else (error.offset, error.width)
    part: Part = "value" if error.field and error.code != "E0214" else "key"
    return Problem(error.code, error.message, sources.place(path, part, within), error.note)


def across_jobs(jobs: Jobs, declared: Iterable[str], sources: Sources) -> Iterator[Problem]:
    """What one job says of others. `declared` has the names of all jobs, also of those with mistakes of their own."""
    yield from _names(jobs, list(declared), sources)
    yield from _circles(jobs, sources)
    yield from _lock_keys(jobs, sources)
    yield from _signals(jobs, sources)
    for name, job in jobs.items():
        yield from _times(name, job, sources)


def references(job: JobDefinition) -> Iterator[tuple[Path, str]]:
    """The jobs that `job` names, each with the path below its table where it does."""
    for index, other in enumerate(job.needs):
        yield ("needs", index), other
    if job.schedule and job.schedule.after:
        for index, other in enumerate(job.schedule.after):
            yield ("schedule", "after", index), other


def _names(jobs: Jobs, declared: Sequence[str], sources: Sources) -> Iterator[Problem]:
    known = set(declared)
    for name, job in jobs.items():
        for path, other in references(job):
            if other not in known:
                meant = did_you_mean(other, declared)
                note = f'did you mean "{meant}"?' if meant else ""
                yield Problem("E0217", f'there is no job "{other}"', sources.place(("jobs", name, *path)), note)


def channels(jobs: Jobs, settings: Settings, sources: Sources) -> Iterator[Problem]:
    """Channels that jobs name and nobody declared: their alerts would reach the log alone."""
    declared = [LOG, *settings.alerts.channels]
    for name, job in jobs.items():
        for index, channel in enumerate(job.alert.channels or ()):
            if channel not in declared:
                meant = did_you_mean(channel, declared)
                note = f'did you mean "{meant}"?' if meant else "declare it in [alerts.channels]"
                place = sources.place(("jobs", name, "alert", "channels", index))
                yield Problem("E0226", f'there is no channel "{channel}"', place, note)


def destinations(jobs: Jobs, settings: Settings | None, sources: Sources) -> Iterator[Problem]:
    """Addresses in URLs that no request goes to; what a name leads to shows only when it is asked for."""
    for name, job in jobs.items():
        if job.http:
            path: Path = ("jobs", name, "http", "url")
            yield from _destination(path, job.http.url, job.http.allow, sources.place(path))
    for name, channel in settings.alerts.channels.items() if settings else ():
        path = ("alerts", "channels", name)  # its line is not shown: there may be a secret in it
        yield from _destination(path, channel.url.get_secret_value(), channel.allow, sources.place(path, "key"))


def _destination(path: Path, url: str, allow: Iterable[str], place: Place | None) -> Iterator[Problem]:
    host = host_of(url)
    if (address := literal(host)) and (kind := refusal(address, host, allow)):
        way_out = f'if it is meant, say so beside it: allow = ["{address}"]'
        yield Problem("E0229", f"{dotted(path)}: {host} is {kind}, where no request may go", place, hints=(way_out,))


def _circles(jobs: Jobs, sources: Sources) -> Iterator[Problem]:
    """Every circle once, told at the job of it that comes first in the files."""
    waits = {name: [other for _, other in references(job) if other in jobs] for name, job in jobs.items()}
    over: set[str] = set()
    for start in jobs:
        if start not in over:
            yield from (_circle(circle, jobs, sources) for circle in _circles_from(start, waits, over))


def _circles_from(start: str, waits: Mapping[str, Sequence[str]], over: set[str]) -> Iterator[list[str]]:
    """The circles that a walk from `start` runs into. Jobs that are done with are added to `over`."""
    trail, stack = [start], [iter(waits[start])]
    while stack:
        following = next(stack[-1], None)
        if following is None:
            stack.pop()
            over.add(trail.pop())
        elif following in trail:
            yield trail[trail.index(following) :]
        elif following not in over:
            trail.append(following)
            stack.append(iter(waits[following]))


def _circle(circle: list[str], jobs: Jobs, sources: Sources) -> Problem:
    first, second = circle[0], circle[1] if len(circle) > 1 else circle[0]
    path = next(path for path, other in references(jobs[first]) if other == second)
    text = " -> ".join([*circle, first])
    return Problem("E0218", f"jobs wait for each other in a circle: {text}", sources.place(("jobs", first, *path)))


def _lock_keys(jobs: Jobs, sources: Sources) -> Iterator[Problem]:
    """A key that is another job's name by default is shared by accident; templates must name parameters."""
    for name, job in jobs.items():
        if job.lock_key is None:
            continue
        place = sources.place(("jobs", name, "lock_key"))
        other = jobs.get(job.lock_key)
        if other and other.name != name and other.lock_key is None and not other.concurrency:
            declare = f'lock_key = "{job.lock_key}" in [jobs.{other.name}]'
            way_out = f"if they are meant to exclude each other, say so there too: {declare}"
            message = f'job "{name}" takes the lock key of job "{other.name}", which does not declare it'
            yield Problem("E0219", message, place, hints=(way_out,))
        if job.kind != "handler":  # what parameters a handler has is known once it is imported
            yield from _template(job, sources)


def _template(job: JobDefinition, sources: Sources) -> Iterator[Problem]:
    known = {*job.params, "run_id"}
    for field, start, width in fields(job.lock_key or ""):
        if field not in known:
            place = sources.place(("jobs", job.name, "lock_key"), "value", (start, width))
            has = f"it has: {', '.join(sorted(known))}"
            yield Problem("E0220", f'lock_key: job "{job.name}" has no parameter "{field}"', place, has)


def _signals(jobs: Jobs, sources: Sources) -> Iterator[Problem]:
    taken: dict[str, str] = {}
    for name, job in jobs.items():
        if job.signal is None:
            continue
        place = sources.place(("jobs", name, "signal"))
        if job.signal not in FREE_SIGNALS:
            free = "expected SIGUSR2, SIGRTMIN+0 to SIGRTMIN+15 or SIGRTMAX-14 to SIGRTMAX-0"
            yield Problem("E0221", f'signal: "{job.signal}" cannot trigger a job', place, free)
        elif job.signal in taken:
            yield Problem("E0221", f'signal: {job.signal} triggers job "{taken[job.signal]}" already', place)
        taken.setdefault(job.signal, name)


def _times(name: str, job: JobDefinition, sources: Sources) -> Iterator[Problem]:
    for key in ("timeout", "stale_after"):
        if getattr(job, key) <= timedelta(0):
            place = sources.place(("jobs", name, key))
            yield Problem("E0223", f"jobs.{name}.{key}: expected more than 0s", place)
    if job.retry and job.retry.base > job.retry.cap:
        base, cap = format_duration(job.retry.base), format_duration(job.retry.cap)
        place = sources.place(("jobs", name, "retry", "base"))
        yield Problem("E0223", f"jobs.{name}.retry: base ({base}) is longer than cap ({cap})", place)


def of_settings(settings: Settings, sources: Sources) -> Iterator[Problem]:
    """The lease's times must leave room for each other, or two nodes could hold one key."""
    t = settings.lease
    rules = (
        (t.beat > timedelta(0) and t.deadline > timedelta(0), "beat", "beat > 0s and deadline > 0s"),
        (t.beat + t.deadline < t.adopt, "adopt", "beat + deadline < adopt"),
        (t.adopt < t.lease, "lease", "adopt < lease"),
        (t.lease + t.kill + HEADWAY <= t.rescue, "rescue", "lease + kill + 2s <= rescue"),
    )
    for holds, key, rule in rules:
        if not holds:
            got = ", ".join(f"{k} {format_duration(getattr(t, k))}" for k in type(t).model_fields if k in rule)
            yield Problem("E0223", f"lease: expected {rule}, got {got}", sources.place(("lease", key)))
