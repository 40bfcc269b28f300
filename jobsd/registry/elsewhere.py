"""Mistakes in the environments that are not the chosen one, so that none of them waits for production to be found."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from jobsd.domain.errors import Problem
from jobsd.registry import check, wording
from jobsd.registry.definition import define
from jobsd.registry.files import File
from jobsd.registry.positions import Path
from jobsd.registry.settings import Settings
from jobsd.registry.sources import Sources, table
from jobsd.registry.variables import is_secret


def mistakes(files: Sequence[File], chosen: str | None) -> Iterator[Problem]:
    """What each other environment gets wrong. A line with a variable is passed over: it is set where it is used."""
    declared = dict.fromkeys(name for file in files for name in table(file.data, ("environments",)))
    for name in declared:
        if name != chosen:
            for found in _environment(Sources(files, name)):
                if not (found.place and "${" in found.place.text):
                    yield found


def _environment(sources: Sources) -> Iterator[Problem]:
    tree = without_secrets(sources.merged(sources.environment))
    touched = dict.fromkeys(job for _, over in sources.overlays(sources.environment) for job in table(over, ("jobs",)))
    declared, problems = tree.pop("jobs"), list[Problem]()
    tables = {name: declared[name] for name in touched if isinstance(declared.get(name), Mapping)}
    defined = {name: define(name, job, sources, problems) for name, job in tables.items()}
    check.schedules({name: job for name, job in defined.items() if job}, sources, problems)
    yield from problems
    try:
        yield from check.of_settings(Settings.model_validate(tree), sources)
    except ValidationError as error:
        yield from wording.problems_of(error, tree, (), sources)


def without_secrets(value: Any, path: Path = ()) -> Any:
    """`value` with some text in the place of secrets that are kept elsewhere: they may not be on this machine."""
    if isinstance(value, Mapping):
        if is_secret(path):
            return "secret"
        return {key: without_secrets(inner, (*path, key)) for key, inner in value.items()}
    return value
