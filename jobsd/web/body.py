"""What comes in: JSON bodies and query strings, read with limits and checked into models. Bad input is the sender's."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ValidationError

from jobsd.domain.errors import Place, Problem
from jobsd.web.errors import Refused, refused
from jobsd.web.patience import PATIENCE

Model = TypeVar("Model", bound=BaseModel)

DEEPEST = 32  # levels of nesting; far below what recursion, here or in the database, minds
LARGE = 64 * 1024  # bytes; what is longer is read in a thread
MOST_MISTAKES = 50


async def body_of(request: web.Request, model: type[Model]) -> Model:
    """The request's body as `model`; an empty body is an empty object. Raises `Refused`: 400, 408, 413, 415, 422."""
    raw = await _read(request)
    if raw and request.content_type != "application/json":
        raise refused(415, "E0507", f"expected Content-Type: application/json, got {request.content_type!r}")
    if len(raw) > LARGE:
        return await asyncio.to_thread(_understood, raw, model)  # thousands of runs: nothing else waits for that
    return _understood(raw, model)


def _understood(raw: bytes, model: type[Model]) -> Model:
    data = _parsed(raw) if raw.strip() else {}
    if not isinstance(data, dict):
        raise refused(422, "E0507", f"expected a JSON object, got {_kind(data)}")
    _require(list(islice(_unfit(data), MOST_MISTAKES)))
    return checked(model, data)


def query_of(request: web.Request, model: type[Model], repeated: Iterable[str] = ()) -> Model:
    """The query string as `model`. A name stands there once, unless it is `repeated`. Raises `Refused` (422)."""
    names = list(dict.fromkeys(request.query))
    twice = [name for name in names if name not in repeated and len(request.query.getall(name)) > 1]
    _require([_mistake((name,), "is there more than once") for name in twice])
    data = {name: request.query.getall(name) if name in repeated else request.query[name] for name in names}
    _require(list(_unfit(data)))
    return checked(model, data)


def checked(model: type[Model], data: object) -> Model:
    """`data` as `model`. Raises `Refused` (422) with all mistakes at once."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False, include_input=False)
        raise Refused(422, *(_mistake(one["loc"], one["msg"]) for one in mistakes[:MOST_MISTAKES])) from None


async def _read(request: web.Request) -> bytes:
    limit_s = request.app[PATIENCE].body_s
    try:
        async with asyncio.timeout(limit_s):
            return await request.read()
    except TimeoutError:
        raise refused(408, "E0507", f"the body did not come within {limit_s:g} s", headers=CLOSE) from None
    except web.HTTPRequestEntityTooLarge as error:
        most = request.app[PATIENCE].body_bytes
        raise refused(413, "E0507", f"the body is larger than {most} bytes", headers=CLOSE) from error
    except web.RequestPayloadError as error:
        raise refused(400, "E0507", "the body is not encoded as its headers say", headers=CLOSE) from error


CLOSE = {"Connection": "close"}


def _parsed(raw: bytes) -> Any:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _unreadable(raw, error) from None


def _unreadable(raw: bytes, error: orjson.JSONDecodeError) -> Refused:
    """What is JSON by its grammar and still refused gets 422; what is not gets 400 with the place."""
    try:
        json.loads(raw)
    except RecursionError:
        return refused(422, "E0507", f"the body is nested too deeply, at most {DEEPEST} levels are allowed")
    except ValueError:
        return refused(400, "E0507", f"the body is not JSON: {error.msg}, line {error.lineno} column {error.colno}")
    if "depth" in error.msg:
        return refused(422, "E0507", f"the body is nested too deeply, at most {DEEPEST} levels are allowed")
    return refused(422, "E0507", "the body has what cannot be stored: NaN, an infinite number or half a surrogate pair")


def _unfit(data: object) -> Iterator[Problem]:
    """What PostgreSQL's jsonb, text and bigint do not take. Walks without recursion."""
    waiting: list[tuple[tuple[str | int, ...], object]] = [((), data)]
    while waiting:
        where, value = waiting.pop()
        if len(where) > DEEPEST:
            yield _mistake(where[:2], f"is nested too deeply, at most {DEEPEST} levels are allowed")
            return
        if isinstance(value, dict):
            yield from (_mistake(where, "has a name with a NUL character in it") for key in value if not _storable(key))
            waiting.extend(((*where, key), inner) for key, inner in value.items())
        elif isinstance(value, list):
            waiting.extend(((*where, n), inner) for n, inner in enumerate(value))
        elif isinstance(value, str) and not _storable(value):
            yield _mistake(where, "has a NUL character or half a surrogate pair in it, which cannot be stored")


def _storable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text


def _mistake(where: Iterable[str | int], message: str) -> Problem:
    """One mistake with its place: a JSON pointer into the body, or the name in the query."""
    parts = [str(part)[:100] for part in where]
    text = message.removeprefix("Value error, ")
    pointer = "#/" + "/".join(part.replace("~", "~0").replace("/", "~1") for part in parts)
    return Problem(
        "E0507", f"{'.'.join(parts)}: {text}" if parts else text, Place(pointer.encode(errors="replace").decode())
    )


def _require(mistakes: list[Problem]) -> None:
    if mistakes:
        raise Refused(422, *mistakes[:MOST_MISTAKES])


def _kind(value: object) -> str:
    kinds = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")
