"""Every effective value and where it came from, for `jobsd config show`. Secrets are `***`."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jobsd.registry.load import Registry
from jobsd.registry.positions import Path, dotted
from jobsd.registry.variables import TELLING, is_secret

MASK = "***"
PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@\s]+@")


class Shown(NamedTuple):
    """One line. `origin` is a flag, a variable, file:line, or "default"."""

    key: str
    value: Any
    origin: str


def values(registry: Registry) -> Iterator[Shown]:
    """All settings, then all jobs, key by key; a table that is empty is a line of its own."""
    yield from _of(registry, (), registry.public_settings())
    for name, job in registry.jobs.items():
        yield from _of(registry, ("jobs", name), {key: value for key, value in job.public().items() if key != "name"})


def _of(registry: Registry, path: Path, value: Any) -> Iterator[Shown]:
    if isinstance(value, Mapping) and value and not is_secret(path):
        for key, inner in value.items():
            yield from _of(registry, (*path, key), inner)
    else:
        yield Shown(dotted(path), _masked(registry, path, value), registry.sources.origin(path))


def _masked(registry: Registry, path: Path, value: Any) -> Any:
    """What a file says in place of a secret ("${TOKEN}", a file's name) is shown; one that is written out is not."""
    if path[0] == "jobs" and path in registry.written:
        return value
    if is_secret(path) and path[0] != "jobs":
        return value if value is None else MASK
    if isinstance(value, str):
        return MASK if value and TELLING.search(str(path[-1])) else PASSWORD.sub(rf"\1{MASK}@", value)
    return [_masked(registry, path, inner) for inner in value] if isinstance(value, list) else value
