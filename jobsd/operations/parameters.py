"""Whether the parameters of a request fit the job: its handler's model, and the names in its lock key."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobsd import handlers
from jobsd.domain.errors import Exit, JobsdError, Place, Problem, did_you_mean
from jobsd.domain.job import JobDefinition
from jobsd.domain.lock_key import lock_key_of

SHOWN = 80  # characters of a value that does not fit


def check(job: JobDefinition, params: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raises E0504 with every one of `params` that does not fit; `asked` are those that came with the request."""
    handler = handlers.resolve(job)
    if handler is not None and handler.model is not None:
        check_model(handler.model, params, asked)


def check_model(model: type[BaseModel], params: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """The same for any model."""
    problems = [*_unknown(model, asked), *_misfits(model, params, asked)]
    if problems:
        raise JobsdError(tuple(dict.fromkeys(problems)), Exit.USAGE)


def lock_key(job: JobDefinition, params: Mapping[str, Any]) -> str | None:
    """The run's lock key, None when it is its own. Raises E0504 when its template cannot be filled in."""
    try:
        return lock_key_of(job.key_template, params)
    except ValueError as error:
        raise JobsdError((Problem("E0504", str(error), Place("#/params")),), Exit.USAGE) from None


def among(number: int, problems: Iterable[Problem]) -> Iterator[Problem]:
    """The same problems as those of one run among many."""
    for each in problems:
        pointer = each.place.file.removeprefix("#") if each.place else ""
        yield replace(each, message=f"runs.{number}: {each.message}", place=Place(f"#/runs/{number}{pointer}"))


def _unknown(model: type[BaseModel], asked: Mapping[str, Any]) -> Iterator[Problem]:
    """Names that a model would silently pass over: most of them are mistyped."""
    if model.model_config.get("extra", "ignore") == "allow":
        return
    known = {name for field, info in model.model_fields.items() for name in (field, info.alias or field)}
    for name in asked.keys() - known:
        near = did_you_mean(name, known)
        hint = f'did you mean "{near}"?' if near else f"it takes: {', '.join(sorted(known)) or 'none'}"
        yield Problem("E0504", f"{name}: there is no such parameter", Place(f"#/params/{name}"), hints=(hint,))


def _misfits(model: type[BaseModel], params: Mapping[str, Any], asked: Mapping[str, Any]) -> Iterator[Problem]:
    try:
        model.model_validate(dict(params))
    except ValidationError as error:
        for one in error.errors(include_url=False, include_context=False):
            if one["type"] != "extra_forbidden":  # told by `_unknown`
                yield _misfit(one, asked)


def _misfit(one: ErrorDetails, asked: Mapping[str, Any]) -> Problem:
    """What came is shown only if it came with the request: a default may be a secret."""
    where = [str(part) for part in one["loc"]]
    came = one["input"]
    shown = isinstance(came, (str, int, float)) and bool(where) and where[0] in asked
    said = one["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ")
    text = f"{'.'.join(where) or 'parameters'}: {said[:1].lower()}{said[1:]}"
    text += f", got {str(came)[:SHOWN]!r}" if shown else ""
    return Problem("E0504", text, Place("#/" + "/".join(("params", *where))))
