"""What pydantic found, told to the file's author: expected this, got that, here."""

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from jobsd.domain.errors import Problem, did_you_mean
from jobsd.domain.job import KINDS
from jobsd.registry import schema
from jobsd.registry.positions import Path, dotted
from jobsd.registry.sources import Sources, has

EXPECTED: Mapping[str, str] = {  # pydantic's type of error: what was expected
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": 'a list, like ["a", "b"]',
    "mapping_type": "a table",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "datetime_type": "a date and time, like 2026-01-31T08:00:00Z",
    "datetime_parsing": "a date and time, like 2026-01-31T08:00:00Z",
    "datetime_from_date_parsing": "a date and time, like 2026-01-31T08:00:00Z",
    "too_short": "at least {min_length} of them",
    "greater_than_equal": "at least {ge}",
    "less_than_equal": "at most {le}",
    "string_pattern_mismatch": "a name of small letters, digits and _",
}


def problems_of(error: ValidationError, tree: Any, root: Path, sources: Sources) -> Iterator[Problem]:
    """`error` as problems. `tree` is what was checked, `root` its path in the configuration.

    Branches of a union that all fail at one value are one problem.
    """
    found: dict[Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_path(detail, tree), []).append(detail)
    for path, details in found.items():
        match details[0]["type"]:
            case "extra_forbidden":
                yield unknown_key((*root, *path), sources)
            case "missing":
                table, key = (*root, *path)[:-1], path[-1]
                yield Problem("E0206", f'missing key "{key}" in [{dotted(table)}]', sources.place(table, "key"))
            case _ if not path:
                yield from _whole(details, tree, root, sources)
            case _:
                yield wrong_value((*root, *path), details, sources)


def paths_of(error: ValidationError, tree: Any) -> Iterator[Path]:
    """What would have to go from `tree` for `error` to be gone: a wrong value, or the table that lacks a key."""
    for detail in error.errors(include_url=False):
        path = _path(detail, tree)
        yield path[:-1] if detail["type"] == "missing" else path


def _path(detail: ErrorDetails, tree: Any) -> Path:
    """Where in `tree` the error is: without the names of a union's branches, which pydantic adds."""
    path: Path = ()
    for step in detail["loc"]:
        if not has(tree, (*path, step)):
            return (*path, step) if detail["type"] == "missing" else path
        path = (*path, step)
    return path


def unknown_key(path: Path, sources: Sources) -> Problem:
    """A key that is not known where it stands, with the ones that are."""
    table, key = path[:-1], str(path[-1])
    known = [name for name in schema.allowed(table) if (*table[-2:-1], name) != ("jobs", "name")]
    meant = did_you_mean(key, known)
    explain = f"allowed keys: jobsd explain {schema.generic(dotted(table))}" if table else ""
    note = "        ".join(filter(None, (f'did you mean "{meant}"?' if meant else "", explain)))
    hints = () if meant else (f"allowed keys are: {', '.join(known)}",)
    where = f"in [{dotted(table)}]" if table else "at the top"
    return Problem("E0204", f'unknown key "{key}" {where}', sources.place(path, "key"), note, hints)


def _whole(details: list[ErrorDetails], tree: Any, root: Path, sources: Sources) -> Iterator[Problem]:
    """A rule about a table as a whole. The one about a job's kind of work points at the one too many."""
    given = [kind for kind in KINDS if isinstance(tree, Mapping) and kind in tree]
    at = (*root, given[1]) if len(given) > 1 else root
    code = "E0216" if root[:1] == ("jobs",) else "E0205"
    for detail in details:
        yield Problem(code, f"{dotted(root)}: {_text(detail)}", sources.place(at, "key"))


def wrong_value(path: Path, details: list[ErrorDetails], sources: Sources) -> Problem:
    texts = list(dict.fromkeys(_as_written(_text(detail), detail, path, sources) for detail in details))
    if len(texts) > 1:
        wanted = " or ".join(dict.fromkeys(_expected(detail) for detail in details))
        texts = [f"expected {wanted}, got {came(details[0]['input'])}"]
    note = ""
    if details[0]["type"] == "literal_error" and isinstance(details[0]["input"], str):
        options = [option.strip("'") for option in _options(details[0])]
        meant = did_you_mean(details[0]["input"], options)
        note = f'did you mean "{meant}"?' if meant else ""
    origin = sources.overrides[path].origin + ": " if path in sources.overrides else ""
    return Problem("E0205", f"{origin}{dotted(path)}: {texts[0]}", sources.place(path), note)


def _as_written(text: str, detail: ErrorDetails, path: Path, sources: Sources) -> str:
    """`text` with what the file says in place of a value that variables have filled in: it may be a secret."""
    raw = sources.raw(path)
    return text.replace(str(detail["input"]), raw) if isinstance(raw, str) and "${" in raw else text


def _text(detail: ErrorDetails) -> str:
    if detail["type"] == "value_error":
        return str(detail["ctx"]["error"])
    return f"expected {_expected(detail)}, got {came(detail['input'])}"


def _expected(detail: ErrorDetails) -> str:
    if detail["type"] == "literal_error":
        options = [option.replace("'", '"') if option != "True" else "true" for option in _options(detail)]
        return options[0] if len(options) == 1 else "one of " + ", ".join(options)
    if wording := EXPECTED.get(detail["type"]):
        return wording.format(**detail.get("ctx", {}))
    return detail["msg"].removeprefix("Input should be ")


def _options(detail: ErrorDetails) -> list[str]:
    return str(detail["ctx"]["expected"]).replace(" or ", ", ").split(", ")


def came(value: object) -> str:
    """A value as its author wrote it, short."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"' if len(value) <= 60 else f'"{value[:60]}…"'
        case Mapping():
            return "a table" if value else "an empty table"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case datetime() | date() | time():
            return value.isoformat()
    return str(value)
