"""The difference of two registries, key by key: what a reload does, for the log, the audit and who asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from jobsd.registry.load import Registry
from jobsd.registry.positions import dotted

# Settings that a running daemon does not take up: whole tables, and keys of others.
AT_START_ONLY = ("daemon.name", "daemon.slots", "daemon.state_dir", "database", "http", "lease", "log")


@dataclass(frozen=True, slots=True)
class Change:
    """One key with another value, both as JSON, None for none. Secrets are as written, never filled in."""

    key: str  # jobs.backup.schedule.cron
    old: Any
    new: Any


@dataclass(frozen=True, slots=True)
class Plan:
    """Names of jobs, each list sorted, and every key that differs in the changed ones and in the settings."""

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()
    needs_restart: tuple[str, ...] = ()  # keys among `changes` that count from the next start on

    @property
    def line(self) -> str:
        return f"+{len(self.added)} added ~{len(self.changed)} changed -{len(self.removed)} removed"

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.changes)


def diff(old: Registry, new: Registry) -> Plan:
    """What leads from `old` to `new`."""
    both = old.jobs.keys() & new.jobs.keys()
    changed = tuple(sorted(name for name in both if old.jobs[name].hash != new.jobs[name].hash))
    changes = [
        change
        for name in changed
        for change in _changes(("jobs", name), old.jobs[name].public(), new.jobs[name].public())
    ]
    settings = list(_changes((), old.public_settings(), new.public_settings()))
    return Plan(
        added=tuple(sorted(new.jobs.keys() - both)),
        changed=changed,
        removed=tuple(sorted(old.jobs.keys() - both)),
        changes=(*changes, *settings),
        needs_restart=tuple(
            change.key
            for change in settings
            if f"{change.key}.".startswith(tuple(f"{each}." for each in AT_START_ONLY))
        ),
    )


def _changes(path: tuple[str, ...], old: Any, new: Any) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys((*old, *new)):
            yield from _changes((*path, key), old.get(key), new.get(key))
    elif old != new:
        yield Change(dotted(path), old, new)
