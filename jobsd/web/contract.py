"""What a route takes and answers, said beside its handler: the API's description is made of it, and tests hold it.

A handler's docstring says what the route is for; path parameters are in its address, its scope in the table of routes.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel

Handle = TypeVar("Handle", bound=Callable[[web.Request], Awaitable[web.StreamResponse]])

EVENTS = "text/event-stream"
_SAID = "contract"


@dataclass(frozen=True, slots=True)
class Contract:
    """One route's requests and answers.

    `answer` is the answer's model, or its media type where it is no JSON. `refuses` are the codes that it may answer
    besides those of every route, of the query, of the body and of what its address names.
    """

    answer: Any  # a model, `Page[RunSummary]` too, or a media type
    status: tuple[int, ...] = (200,)
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    headers: tuple[str, ...] = ()  # of the request: "Idempotency-Key"
    refuses: tuple[str, ...] = ()


def speaks(
    answer: Any,
    *status: int,
    query: type[BaseModel] | None = None,
    body: type[BaseModel] | None = None,
    headers: tuple[str, ...] = (),
    refuses: tuple[str, ...] = (),
) -> Callable[[Handle], Handle]:
    """Say of a handler what it takes and answers, with `status` (200 if none is given) when it goes well."""
    contract = Contract(answer, status or (200,), query, body, headers, refuses)

    def said(handle: Handle) -> Handle:
        handle.__dict__[_SAID] = contract
        return handle

    return said


def contract_of(handle: Callable[..., Any]) -> Contract:
    """What was said of a handler. Raises `LookupError` when nothing was."""
    found: Contract | None = handle.__dict__.get(_SAID)
    if found is None:
        raise LookupError(f"{handle.__module__}.{handle.__qualname__} has no @speaks(…)")
    return found
