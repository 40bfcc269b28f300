"""What a request may say to a view: values of its filters, and the key of a page's last row; checked, as text."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Annotated, Any

import orjson
from pydantic import AwareDatetime, Field, Json, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from jobsd.domain.errors import Exit, JobsdError, Place, Problem, did_you_mean, problem
from jobsd.operations.pages import cursor_of, word_of
from jobsd.sdk import View

VALUES: Mapping[str, TypeAdapter[Any]] = {
    "text": TypeAdapter(Annotated[str, Field(max_length=1000)]),
    "integer": TypeAdapter(Annotated[int, Field(ge=-(2**63), lt=2**63)]),
    "number": TypeAdapter(Annotated[float, Field(allow_inf_nan=False)]),
    "boolean": TypeAdapter(bool),
    "date": TypeAdapter(date),
    "instant": TypeAdapter(AwareDatetime),
    "json": TypeAdapter(Json[Any]),
}


def filters_of(view: View, asked: Mapping[str, str]) -> dict[str, str]:
    """Values as PostgreSQL's text."""
    known = {each.name: each for each in view.filters}
    found, wrong = {}, []
    for name, value in asked.items():
        if name not in known:
            near = did_you_mean(name, known)
            hint = f'did you mean "{near}"?' if near else f"it has: {', '.join(known) or 'none'}"
            wrong.append(Problem("E0507", f"{name[:100]}: there is no such filter", _at(name), hints=(hint,)))
            continue
        try:
            found[name] = _text(VALUES[view.kind_of(known[name].of)].validate_python(value))
        except ValidationError as error:
            said = error.errors(include_url=False)[0]["msg"].replace("Input should be ", "expected ")
            wrong.append(Problem("E0507", f"{name}: {said[:1].lower()}{said[1:]}, got {value[:80]!r}", _at(name)))
    if wrong:
        raise JobsdError(tuple(wrong), Exit.USAGE)
    return found


def _at(name: str) -> Place:
    return Place(f"#/{name[:100]}")


def _text(value: Any) -> str:
    """As PostgreSQL reads it back into the column's type."""
    plain = to_jsonable_python(value)
    return plain if isinstance(plain, str) else orjson.dumps(plain).decode()


def key_of(view: View, cursor: str) -> Sequence[str]:
    """The key of a page's last row. Raises E0507 for a made-up one."""
    try:
        key = orjson.loads(word_of(_kind(view), cursor))
        fits = [VALUES[view.kind_of(name)].validate_python(text) for name, text in zip(view.key, key, strict=True)]
    except (ValueError, TypeError) as error:
        hint = 'take "cursor" of the page before, or leave it out for the first page'
        raise problem("E0507", "the cursor is not one of this list", hint, exit_code=Exit.USAGE) from error
    return [_text(value) for value in fits]


def cursor_after(view: View, row: Mapping[str, Any]) -> str:
    """The cursor of the page that follows `row`."""
    return cursor_of(_kind(view), orjson.dumps([_text(row[name]) for name in view.key]).decode())


def _kind(view: View) -> str:
    return f"view {view.name}"
