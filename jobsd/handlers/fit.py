"""Whether each job's handler can be used, and whether what the job gives it fits the model of its parameters."""

from collections.abc import Iterator, Mapping
from typing import Literal, Protocol

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from jobsd.domain.errors import Place, Problem, did_you_mean
from jobsd.domain.job import JobDefinition
from jobsd.domain.lock_key import fields
from jobsd.handlers.find import Handler, HandlerError, named

Path = tuple[str | int, ...]
Part = Literal["key", "value"]


class Registered(Protocol):
    """What is needed of a registry: its jobs, and where something is written."""

    @property
    def jobs(self) -> Mapping[str, JobDefinition]: ...
    def place(self, path: Path, part: Part = "value", within: tuple[int, int] | None = None) -> Place | None: ...


def check_handlers(registry: Registered) -> list[Problem]:
    """Every job whose handler cannot be used, or whose parameters do not fit its model."""
    problems: list[Problem] = []
    for job in registry.jobs.values():
        if job.handler is None:
            continue
        try:
            handler = named(job.handler)
        except HandlerError as error:
            place = registry.place(("jobs", job.name, "handler"))
            problems.append(Problem(error.code, str(error), place, hints=error.hints))
        else:
            problems.extend(_of_job(job, handler, registry))
    return problems


def _of_job(job: JobDefinition, handler: Handler, registry: Registered) -> Iterator[Problem]:
    if job.isolation == "loop" and not handler.is_async:
        message = f'handler "{job.handler}" is a plain function: it would block the loop'
        place = registry.place(("jobs", job.name, "isolation"))
        yield Problem("E0233", message, place, 'expected "process", or an async function')
    known = {"run_id", *job.params, *(_keys(handler.model) if handler.model else ())}
    for field, start, width in fields(job.lock_key or ""):
        if field not in known:
            place = registry.place(("jobs", job.name, "lock_key"), "value", (start, width))
            note = f"it has: {', '.join(sorted(known))}"
            yield Problem("E0220", f'lock_key: job "{job.name}" has no parameter "{field}"', place, note)
    if handler.model:
        yield from _params(job, handler.model, registry)


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _params(job: JobDefinition, model: type[BaseModel], registry: Registered) -> Iterator[Problem]:
    """Defaults must fit. What is missing is a mistake only where nobody is asked: in a job with a schedule."""
    path, known = ("jobs", job.name, "params"), _keys(model)
    for key in job.params.keys() - known:
        if model.model_config.get("extra", "ignore") == "ignore":
            yield _misfit(f'{model.__name__} has no parameter "{key}"', registry.place((*path, key), "key"), key, known)
    try:
        model.model_validate(dict(job.params))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            if detail["type"] != "missing":
                yield _wrong(detail, path, model, registry)
            elif job.schedule:
                message = f'params: "{detail["loc"][-1]}" is missing, and a schedule gives no other'
                yield Problem("E0232", message, registry.place(path, "key"), f"{model.__name__} needs it")


def _wrong(detail: ErrorDetails, path: Path, model: type[BaseModel], registry: Registered) -> Problem:
    """A value that does not fit. One that a variable has filled in may be a secret and is not shown."""
    at = (*path, *detail["loc"])
    if detail["type"] == "extra_forbidden":
        key = str(detail["loc"][-1])
        return _misfit(f'{model.__name__} has no parameter "{key}"', registry.place(at, "key"), key, _keys(model))
    where, place = ".".join(["params", *map(str, detail["loc"])]), registry.place(at)
    shown = place is not None and place.text and "${" not in place.text
    got = f", got {detail['input']!r}" if shown else ""
    return Problem("E0232", f"{where}: {_lower(detail['msg'])}{got}", place)


def _misfit(message: str, place: Place | None, key: str, known: list[str]) -> Problem:
    close = did_you_mean(key, known)
    note = f'did you mean "{close}"?' if close else f"it has: {', '.join(known) or 'none'}"
    return Problem("E0232", f"params: {message}", place, note)


def _lower(message: str) -> str:
    message = message.removeprefix("Value error, ").replace("Input should be ", "expected ")
    return message[:1].lower() + message[1:]
