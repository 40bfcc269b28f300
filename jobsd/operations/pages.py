"""Lists come in pages: some items, and an opaque cursor for those after them."""

import base64
import binascii
from typing import Generic, TypeVar

import orjson
from pydantic import BaseModel, Field

from jobsd.domain.errors import Exit, JobsdError, problem

MOST = 200
USUAL = 50
MOST_COUNTED = 10_000

T = TypeVar("T")


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    cursor: str | None = Field(None, description="for the next page; null on the last one")


def counted(count: int) -> str:
    """How many there are in all: "42"; "10,000+" past that, which nobody waits to have counted."""
    return str(count) if count <= MOST_COUNTED else f"{MOST_COUNTED:,}+"


def cursor_of(kind: str, value: int | str) -> str:
    """An opaque cursor that names the last item of a page of `kind`."""
    return base64.urlsafe_b64encode(orjson.dumps([kind, value])).decode().rstrip("=")


def number_of(kind: str, cursor: str, most: int = 2**62) -> int:
    """The number that `cursor_of` was given. Raises E0507 for a cursor of another list, or a made-up one."""
    value = _value(kind, cursor)
    if not isinstance(value, int) or not 0 <= value <= most:
        raise foreign()
    return value


def word_of(kind: str, cursor: str) -> str:
    """The text that `cursor_of` was given. Raises E0507 likewise."""
    value = _value(kind, cursor)
    if not isinstance(value, str):
        raise foreign()
    return value


def _value(kind: str, cursor: str) -> object:
    try:
        padded = cursor.encode() + b"=" * (-len(cursor) % 4)
        found = orjson.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        raise foreign() from None
    match found:
        case [str(was), value] if was == kind and not isinstance(value, bool):
            return value
        case _:
            raise foreign()


def foreign() -> JobsdError:
    """E0507 for a cursor of another list, or a made-up one; to be raised."""
    hint = 'take "cursor" of the page before, or leave it out for the first page'
    return problem("E0507", "the cursor is not one of this list", hint, exit_code=Exit.USAGE)
