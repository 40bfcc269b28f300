"""Every key and value is found where it stands, whatever form of TOML its author likes."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobsd.registry.positions import Path as KeyPath
from jobsd.registry.positions import Span, dotted, positions

ROOT = Path(__file__).resolve().parents[2]


def walk(value: Any, path: KeyPath = ()) -> list[tuple[KeyPath, Any]]:
    """Everything in a parsed document, with its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found: list[tuple[KeyPath, Any]] = [(path, value)] if path else []
    for step, below in inner:
        found += walk(below, (*path, step))
    return found


def assert_found(text: str) -> None:
    """Each path has a place, each key reads as itself, and each value that stands in one piece reads as its value."""
    document, spans = tomllib.loads(text), positions(text)
    everything = walk(document)
    assert {path for path, _ in everything} == set(spans)
    for path, value in everything:
        span = spans[path]
        if isinstance(path[-1], str):
            assert next(iter(tomllib.loads(f"{text[span.key : span.key_end]} = 0"))) == path[-1]
        if not isinstance(value, (dict, list)) or (span.value > span.key and not is_partly_elsewhere(text, span)):
            assert tomllib.loads(f"v = {text[span.value : span.value_end]}")["v"] == value


def is_partly_elsewhere(text: str, span: Span) -> bool:
    """A table that dotted keys make has the place of its first key."""
    return text[span.key_end : span.value].strip().startswith(".")


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=0, max_size=5)
SCALARS = st.one_of(
    st.integers(-(2**40), 2**40),
    st.booleans(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=12),
    st.datetimes(),
    st.dates(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=8
)


def written(value: Any) -> str:
    """A value as TOML on one line."""
    match value:
        case dict():
            return "{ " + ", ".join(f"{quoted(key)} = {written(inner)}" for key, inner in value.items()) + " }"
        case list():
            return "[ " + ",\n  ".join(written(inner) for inner in value) + " ] # a comment, with = and ["
        case bool():
            return str(value).lower()
        case str():
            return quoted(value)
        case int() | float():
            return repr(value)
    return value.isoformat(" ") if hasattr(value, "hour") else value.isoformat()


def quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


@pytest.mark.req("C1")
@given(st.dictionaries(KEYS, st.dictionaries(KEYS, SCALARS | st.lists(SCALARS, max_size=3), max_size=4), max_size=4))
def test_tables_keys_and_values_are_found_in_any_document(document: dict[str, dict[str, Any]]) -> None:
    lines = []
    for name, table in document.items():
        lines.append(f"[ {quoted(name)} ]  # {{")
        lines += [f"\t{quoted(key)} = {written(value)}" for key, value in table.items()]

    assert_found("\n".join(lines))


@pytest.mark.req("C1")
@given(KEYS, VALUES.filter(lambda value: "#" not in written(value) or not isinstance(value, dict)))
def test_values_within_values_are_found(key: str, value: Any) -> None:
    text = f"{quoted(key)} = {written(value)}"
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return  # a list's line break within an inline table: not TOML before version 1.1

    assert_found(text)


FORMS = {
    "dotted keys": 'a.b.c = 1\na.b."d e" = 2\na . f = 3',
    "dotted keys in an inline table": "t = { x.y = 1, x.z = 2 }",
    "strings of four kinds": "\n".join(
        ['a = "x\\"#"', "b = 'x\\'", 'c = """', 'one ""two\\" ]"""', "d = '''", "x'''''"]
    ),
    "a string that ends in quotes": 'a = """"quoted""""" # and a comment',
    "comments and blank lines": "# [x]\n\n  # a = 1\n[t] # [u]\na = 1 # b = 2\n",
    "dates with a space": "a = 1979-05-27 07:32:00Z\nb = [1979-05-27 07:32:00, 1979-05-27]\nc = 07:32:00",
    "lists over many lines": 'a = [\n  1, # one\n  [2, "]"],\n  { b = "}" },\n]',
    "arrays of tables": "[[a]]\nx = 1\n[a.b]\ny = 2\n[[a]]\nx = 3\n[[a.c]]\nz = 4\n[[a.c]]\nz = 5",
    "an array of tables with one name twice": "[[a.a]]\nx = 1\n[[a.a]]\nx = 2\n[a.a.b]\ny = 1",
    "a table before the one that it is in": "[a.b]\nx = 1\n[a]\ny = 2",
    "numbers of all kinds": "a = 0xff\nb = 1_000\nc = -1.5e-3\nd = +inf\ne = true",
    "no line break at the end": "[a]\nb = 1",
    "nothing at all": "",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_a_form_of_toml_is_found(text: str) -> None:
    assert_found(text)


@pytest.mark.parametrize("file", ["pyproject.toml", "config/jobsd.toml", "config/jobs.d/examples.toml"])
def test_files_of_this_project_are_found(file: str) -> None:
    assert_found((ROOT / file).read_text())


def test_a_table_is_where_its_own_header_is() -> None:
    text = "[jobs.a.env]\nX = '1'\n[jobs.a]\ncommand = ['x']"

    span = positions(text)["jobs", "a"]

    assert text[span.value : span.value_end] == "[jobs.a]"


def test_a_path_is_written_as_people_write_it() -> None:
    assert dotted(("jobs", "backup", "command", 1)) == "jobs.backup.command[1]"
