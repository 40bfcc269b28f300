"""What job code left behind, however broken, made fit to be stored: errors as text, results as JSON."""

import dataclasses
import json
import re
import traceback
from collections.abc import Iterator
from datetime import date, datetime, time
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson
from pydantic import BaseModel

from jobsd.domain.outcome import Failed

ERROR_BYTES = 64 * 1024
RESULT_BYTES = 1024 * 1024
KIND_CHARS = 100
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")


class UnfitResult(ValueError):
    """The value that a job returned cannot be stored as JSON."""


def clean(text: str, limit: int = ERROR_BYTES) -> str:
    """`text` as PostgreSQL takes it: no NUL, no lone surrogate; of more than `limit` bytes the middle is left out."""
    half = limit // 2
    if len(text) > limit:  # in characters: then in bytes as well, and only its ends need be looked at
        head, tail = _storable(text[:half]), _storable(text[-half:])
    elif len(head := _storable(text)) <= limit:
        return head.decode()
    else:
        tail = head
    first, last = head[:half].decode(errors="ignore"), tail[-half:].decode(errors="ignore")
    return f"{first}\n[… about {len(text) - len(first) - len(last)} characters are left out …]\n{last}"


def _storable(text: str) -> bytes:
    return text.replace("\0", "").encode(errors="backslashreplace")


def failure(error: BaseException, skip_frames: int = 0) -> Failed:
    """An exception as an outcome: its class as the kind; class and message, then the traceback, as the text."""
    kind = clean(_name(error), KIND_CHARS)
    message = _text(error)
    first = f"{kind}: {message}" if message else kind
    return Failed(
        kind, clean(f"{clean(first, ERROR_BYTES // 2)}\n\n{clean(_trace(error, skip_frames), ERROR_BYTES // 2)}")
    )


def _name(error: BaseException) -> str:
    name = type(error).__name__
    return name if isinstance(name, str) else "Exception"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as second:  # job code: even this may raise anything
        return f"<its text cannot be had: {_name(second)}>"


def _trace(error: BaseException, skip_frames: int) -> str:
    try:
        trace = error.__traceback__
        for _ in range(skip_frames):
            trace = trace.tb_next if trace is not None else None
        return "".join(traceback.format_exception(type(error), error, trace, limit=-50)).rstrip()
    except BaseException as second:
        return f"<its traceback cannot be had: {_name(second)}>"


def as_json(value: object) -> Any:
    """`value` as plain JSON: models and dataclasses dumped. Raises `UnfitResult`, worded for the job's author."""
    try:
        text = "".join(
            _bounded(json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain).iterencode(value))
        )
        if "\\u0000" in text and _NUL.search(text):
            raise UnfitResult("the result holds the character U+0000, which PostgreSQL cannot store")
        plain = json.loads(text)
        orjson.dumps(plain)
    except UnfitResult:
        raise
    except RecursionError as error:
        raise UnfitResult("the result is nested too deeply, or holds itself") from error
    except BaseException as error:
        raise UnfitResult(f"the result is not JSON: {_text(error) or _name(error)}") from error
    return plain


def _bounded(chunks: Iterator[str]) -> Iterator[str]:
    size = 0
    for chunk in chunks:
        size += len(chunk) if chunk.isascii() else len(chunk.encode())
        if size > RESULT_BYTES:
            raise UnfitResult(f"the result is larger than {RESULT_BYTES} bytes as JSON")
        yield chunk


def _plain(value: object) -> object:
    """What `json` cannot write by itself. Raises `TypeError`."""
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case datetime() | date() | time():
            return value.isoformat()
        case Enum():
            return value.value
        case UUID() | PurePath():
            return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
