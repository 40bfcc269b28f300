"""A view: a named read-only query of a pack, with typed columns, filters, and the actions that fit a row.

HTTP, the command line and the dashboard show any view by what is declared here, and know no pack.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["text", "integer", "number", "boolean", "date", "instant", "json"]
Compare = Literal["is", "at_least", "at_most"]

NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
TAKEN = frozenset({"limit", "cursor"})  # of every list's query
ORDERED: frozenset[Kind] = frozenset({"text", "integer", "boolean", "date", "instant"})  # and exact: fit for a key


@dataclass(frozen=True, slots=True)
class Column:
    """A column that the view's SQL gives. `title` stands above it; without one its name does."""

    name: str
    kind: Kind = "text"
    title: str = ""


@dataclass(frozen=True, slots=True)
class Filter:
    """What a reader may narrow the view by: `column` (default: the one of the same name), compared with a value."""

    name: str
    column: str = ""
    compare: Compare = "is"
    about: str = ""

    @property
    def of(self) -> str:
        return self.column or self.name


@dataclass(frozen=True, slots=True)
class Fit:
    """An action of the same pack that fits a row: which column fills in which of its parameters.

    With `when`, a boolean column, it fits only the rows where that is true.
    """

    action: str
    params: Mapping[str, str]
    when: str | None = None


@dataclass(frozen=True, slots=True)
class View:
    """`sql` is one SELECT without parameters. `key` names the columns, none of them null, that tell its rows apart.

    Rows come in the order of the key, the greatest first unless `descending` is false. Raises `ValueError` when
    its parts do not fit together.
    """

    name: str
    title: str
    sql: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    descending: bool = True
    filters: tuple[Filter, ...] = ()
    actions: tuple[Fit, ...] = field(default=())

    def __post_init__(self) -> None:
        if wrong := next(self._mistakes(), None):
            raise ValueError(f'view "{self.name}": {wrong}')

    def kind_of(self, column: str) -> Kind:
        return next(each.kind for each in self.columns if each.name == column)

    def _mistakes(self) -> Iterator[str]:
        columns = [each.name for each in self.columns]
        filters = [each.name for each in self.filters]
        yield from misnamed([self.name, *columns, *filters])
        yield from (f'"{name}" is there twice' for names in (columns, filters) for name in twice(names))
        yield from (f'a filter cannot be named "{name}"' for name in filters if name in TAKEN)
        if not self.key:
            yield "its key is empty"
        named = [*self.key, *(each.of for each in self.filters), *self._filling()]
        yield from (f'there is no column "{name}"' for name in named if name not in columns)
        yield from (f'"{name}" cannot be of a key: it is {self.kind_of(name)}' for name in self._unordered())
        for fit in self.actions:
            if fit.when is not None and self.kind_of(fit.when) != "boolean":
                yield f'column "{fit.when}" is not boolean'

    def _unordered(self) -> Iterator[str]:
        return (name for name in self.key if self.kind_of(name) not in ORDERED)

    def _filling(self) -> Iterator[str]:
        for fit in self.actions:
            yield from fit.params.values()
            yield from [] if fit.when is None else [fit.when]


def misnamed(names: list[str]) -> Iterator[str]:
    """Complaints of names that are not lower-case words."""
    for name in names:
        if not NAME.fullmatch(name):
            yield f'expected a lower-case word of at most 50 characters, got "{name}"'


def twice(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
