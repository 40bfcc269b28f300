"""One job's table as a definition, or as much of one as is right."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from pydantic import ValidationError

from jobsd.domain.errors import Problem
from jobsd.domain.job import KINDS, JobDefinition
from jobsd.registry import wording
from jobsd.registry.sources import Sources, has


def define(name: str, table: Mapping[str, Any], sources: Sources, problems: list[Problem]) -> JobDefinition | None:
    """The definition. With mistakes, told to `problems`, it comes without what is wrong: later checks see the rest."""
    whole = {**table, "name": name}
    try:
        return JobDefinition.model_validate(whole)
    except ValidationError as error:
        problems.extend(wording.problems_of(error, table, ("jobs", name), sources))
        return mended(whole, error)


def mended(table: Mapping[str, Any], error: ValidationError) -> JobDefinition | None:
    """The definition without the values that `error` is about, if that makes it one."""
    rest = deepcopy(dict(table))
    for path in wording.paths_of(error, table):
        *above, last = path or ("",)
        at: Any = rest
        for step in above:
            at = at[step] if has(at, (step,)) else {}
        if isinstance(at, dict):
            at.pop(last, None)
    kinds = [kind for kind in KINDS if kind in rest]
    for kind in kinds[1:]:
        del rest[kind]
    try:
        return JobDefinition.model_validate(rest if kinds else {**rest, "command": ["true"]})
    except ValidationError:
        return None
