"""The outline of the files, before any value is looked at: tables where tables belong, names, no job twice."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jobsd.domain.errors import Problem, did_you_mean
from jobsd.domain.job import NAME
from jobsd.registry.files import File, twins
from jobsd.registry.positions import Path, dotted
from jobsd.registry.sources import table
from jobsd.registry.wording import came

INCLUDED = ("jobs", "environments")  # what a file may hold that is included


def mistakes(files: Sequence[File]) -> Iterator[Problem]:
    """Everything that is wrong with the outline. The root file comes first in `files`."""
    for file in files[1:]:
        for key in file.data.keys() - INCLUDED:
            note = f"an included file holds jobs and environments; settings belong in {files[0].name}"
            yield Problem("E0204", f'unknown key "{key}" at the top', file.place((key,), "key"), note)
    for file in files:
        yield from _jobs(file)
        yield from _environments(file, {name for one in files for name in table(one.data, ("jobs",))})
    yield from _twins(files)


def _jobs(file: File) -> Iterator[Problem]:
    yield from _tables(file, ("jobs",), file.data.get("jobs", {}))
    for name in table(file.data, ("jobs",)):
        if not NAME.fullmatch(name):
            note = "a letter, then letters, digits, _ . -, at most 100"
            yield Problem("E0210", f'a job cannot be named "{name}"', file.place(("jobs", name), "key"), note)


def _environments(file: File, jobs: set[str]) -> Iterator[Problem]:
    yield from _tables(file, ("environments",), file.data.get("environments", {}))
    for environment, over in table(file.data, ("environments",)).items():
        path = ("environments", environment, "jobs")
        yield from _tables(file, path, over.get("jobs", {}) if isinstance(over, Mapping) else {})
        for name in table(over, ("jobs",)):
            if name not in jobs:
                meant = did_you_mean(name, jobs)
                note = f'did you mean "{meant}"?' if meant else "an environment changes jobs; it cannot add one"
                yield Problem("E0217", f'there is no job "{name}"', file.place((*path, name), "key"), note)


def _tables(file: File, path: Path, value: Any) -> Iterator[Problem]:
    """`value` and everything directly in it must be tables."""
    if not isinstance(value, Mapping):
        yield Problem("E0205", f"{dotted(path)}: expected tables, got {came(value)}", file.place(path))
        return
    for name, inner in value.items():
        if not isinstance(inner, Mapping):
            place = file.place((*path, name))
            yield Problem("E0205", f"{dotted((*path, name))}: expected a table, got {came(inner)}", place)


def _twins(files: Sequence[File]) -> Iterator[Problem]:
    homes: dict[str, File] = {}
    for file in files:
        for name in table(file.data, ("jobs",)):
            path = ("jobs", name)
            if name in homes:
                yield twins(name, homes[name].place(path, "key"), file.place(path, "key"))
            homes.setdefault(name, file)
