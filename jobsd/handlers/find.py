"""Imports "module:function" and finds out how it is to be called, and the model of its parameters.

Importing runs the team's own code: whatever that raises is told as this one handler's fault.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from importlib import import_module
from types import ModuleType
from typing import Any, get_type_hints

from pydantic import BaseModel

from jobsd.domain.errors import did_you_mean
from jobsd.domain.job import JobDefinition

SHOWN = 8  # of a module's functions
FORMS = "(ctx, params), (ctx) or ()"


class HandlerError(ValueError):
    """A handler that cannot be used. `code` is E0231 or E0233, `hints` are ways out."""

    def __init__(self, code: str, message: str, *hints: str) -> None:
        super().__init__(message)
        self.code, self.hints = code, hints


@dataclass(frozen=True, slots=True)
class Handler:
    """`call` takes (ctx, params) when there is a `model`, else (ctx), however the function itself is written."""

    call: Callable[..., Any]
    model: type[BaseModel] | None
    is_async: bool


def resolve(definition: JobDefinition) -> Handler | None:
    """The job's handler; None for another kind of job, and for one whose handler `check_handlers` complains of."""
    if definition.handler is None:
        return None
    try:
        return named(definition.handler)
    except HandlerError:
        return None


@cache
def named(name: str) -> Handler:
    """The handler "module:function". Raises `HandlerError`."""
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise HandlerError("E0231", f'handler: expected "module:function", got "{name}"')
    found: Any = _module(name, module_name)
    for step in attribute.split("."):
        if not hasattr(found, step):
            raise HandlerError("E0231", _not_found(name, found, step))
        found = getattr(found, step)
    return _handler(name, found)


def _module(name: str, module_name: str) -> ModuleType:
    try:
        return import_module(module_name)
    except (Exception, SystemExit) as error:
        why = f'handler "{name}": cannot import {module_name}: {type(error).__name__}: {error}'.rstrip(": ")
        absent = isinstance(error, ModuleNotFoundError) and module_name.startswith(f"{error.name}")
        hint = "install it beside jobsd, or put its folder in PYTHONPATH"
        raise HandlerError("E0231", why, *([hint] if absent else [])) from error


def _not_found(name: str, module: Any, attribute: str) -> str:
    own = [
        key
        for key, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not key.startswith("_")
    ]
    has = ", ".join(own[:SHOWN]) + (", …" if len(own) > SHOWN else "") if own else "no functions"
    close = did_you_mean(attribute, own)
    return f'handler "{name}" not found; {module.__name__} has: {has}' + (f'. did you mean "{close}"?' if close else "")


def _handler(name: str, function: Any) -> Handler:
    if not callable(function) or isinstance(function, type):
        came = "class" if isinstance(function, type) else type(function).__name__
        raise HandlerError("E0233", f'handler "{name}" is not a function but {_article(came)}')
    plain = inspect.unwrap(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise HandlerError("E0233", f'handler "{name}" is a generator: nothing would run it to its end')
    taken = _parameters(name, function)
    is_async = inspect.iscoroutinefunction(plain) or inspect.iscoroutinefunction(type(plain).__call__)
    if len(taken) < 2:
        return Handler(function if taken else _without_context(function), None, is_async)
    model = _model(name, plain, taken[1])
    return Handler(function if model else _with_mapping(function), model, is_async)


def _parameters(name: str, function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The positional parameters that a job is called with: none, the context, or context and parameters."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise HandlerError("E0233", f'handler "{name}": {error}') from error
    taken, needed = [], 0
    for parameter in signature.parameters.values():
        must = parameter.default is parameter.empty
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            taken.append(parameter)
            needed += must
        elif parameter.kind is parameter.KEYWORD_ONLY and must:
            needed = 3
    if needed > 2:
        raise HandlerError("E0233", f'handler "{name}" takes {signature}; expected {FORMS}')
    return taken[:2] if needed == 2 or (len(taken) > 1 and _is_annotated(taken[1])) else taken[:1]


def _is_annotated(parameter: inspect.Parameter) -> bool:
    return parameter.annotation is not parameter.empty


def _model(name: str, function: Any, parameter: inspect.Parameter) -> type[BaseModel] | None:
    """The pydantic model that the second parameter is annotated with; None when it takes a mapping or anything."""
    if not _is_annotated(parameter):
        return None
    holder = type("Annotated", (), {"__annotations__": {"params": parameter.annotation}})
    try:
        annotation = get_type_hints(holder, globalns=_globals(function))["params"]
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise HandlerError("E0233", f'handler "{name}": annotation of {parameter.name}: {text}') from error
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    origin = getattr(annotation, "__origin__", annotation)
    if annotation is Any or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return None
    came = getattr(annotation, "__name__", str(annotation))
    message = f'handler "{name}": {parameter.name} must be a pydantic model or a mapping, not {came}'
    raise HandlerError("E0233", message)


def _globals(function: Any) -> dict[str, Any]:
    """Where the names of its annotations are looked up, also for an object that can be called."""
    plain = function if inspect.isfunction(function) else type(function).__call__
    found: dict[str, Any] = getattr(plain, "__globals__", {})
    return found


def _without_context(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(_context: Any) -> Any:
        return function()

    return call


def _with_mapping(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(context: Any) -> Any:
        return function(context, context.params)

    return call


def _article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"
