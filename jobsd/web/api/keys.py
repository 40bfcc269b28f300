"""The header `Idempotency-Key` of a request for runs: the key of one, the beginning of the keys of many."""

from collections.abc import Sequence
from typing import TypeVar

from aiohttp import web

from jobsd.domain.errors import Problem
from jobsd.operations.run_requests import KEY_CHARS, RunRequest
from jobsd.web.errors import Refused, refused

Asked = TypeVar("Asked", bound=RunRequest)


def key_of(request: web.Request) -> str | None:
    """The header, if it is there. Raises `Refused` (422) for one that cannot be a key."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not 1 <= len(key) <= KEY_CHARS:
        raise refused(422, "E0507", f"Idempotency-Key: expected 1 to {KEY_CHARS} characters, got {len(key)}")
    if key is not None and not key.isprintable():  # bytes that are no UTF-8 come as halves of surrogate pairs
        raise refused(422, "E0507", "Idempotency-Key: expected printable characters in UTF-8")
    return key


def keyed(asked: Asked, key: str | None) -> Asked:
    """`asked` with the header's key. Raises `Refused` (422) where the body has another."""
    if key is None or key == asked.key:
        return asked
    if asked.key is not None:
        raise Refused(422, Problem("E0507", "key: the header Idempotency-Key says otherwise"))
    return asked.model_copy(update={"key": key})


def keyed_runs(runs: Sequence[RunRequest], key: str | None) -> Sequence[RunRequest]:
    """Those without a key of their own get "KEY#0", "KEY#1" and so on, by their place."""
    if key is None:
        return runs
    if len(f"{key}#{len(runs)}") > KEY_CHARS:
        raise refused(422, "E0507", f"Idempotency-Key: too long for a number behind it, {KEY_CHARS} characters in all")
    return [each if each.key else keyed(each, f"{key}#{number}") for number, each in enumerate(runs)]
