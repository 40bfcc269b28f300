"""Where each key and value of a TOML text stands. Reads only what `tomllib` has accepted, so it can be short.

`tomllib` gives values but no positions. This walk gives positions but no values, and is made only for a file in which
something is to be pointed at.
"""

import re
import tomllib
from typing import NamedTuple

Path = tuple[str | int, ...]

BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
KEY_PART = re.compile(r"""[ \t]*("(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)[ \t]*""")
STRING = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""(?:"{1,2}(?!"))?|\'\'\'.*?\'\'\'(?:'{1,2}(?!'))?|"(?:[^"\\]|\\.)*"|'[^']*\'''', re.DOTALL
)
SCALAR = re.compile(r"\d{4}-\d\d-\d\d \d\d:[^,\]}\s#]*|[^,\]}\s#]+")


class Span(NamedTuple):
    """Offsets into the text: of the key and of the value, ends excluded. A table made by a header has its header."""

    key: int
    key_end: int
    value: int
    value_end: int


def positions(text: str) -> dict[Path, Span]:
    """Every key and every array element of a valid TOML `text`, by its path; a table where its own header is."""
    return _Walk(text).document()


def dotted(path: Path) -> str:
    """`path` as people write it: jobs.backup.command[1]."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else str(step)
    return text


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.spans: dict[Path, Span] = {}
        self.tables: dict[Path, int] = {}  # arrays of tables: how many so far

    def document(self) -> dict[Path, Span]:
        table: Path = ()
        while self.skip():
            if self.text[self.at] == "[":
                table = self.header()
            else:
                self.pair(table)
        return self.spans

    def skip(self) -> str:
        """Pass over blanks and comments. Answers the character that follows, or nothing at the end."""
        match = BLANK.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return self.text[self.at : self.at + 1]

    def header(self) -> Path:
        """`[a.b]` or `[[a.b]]`: the path of the table that it opens."""
        start, array = self.at, self.text.startswith("[[", self.at)
        self.at += 2 if array else 1
        path: Path = ()
        parts = self.parts()
        end = self.at + (2 if array else 1)
        for name, key, key_end in parts[:-1]:
            path = (*path, name)
            self.spans.setdefault(path, Span(key, key_end, start, end))
            if path in self.tables:
                path = (*path, self.tables[path] - 1)
        name, key, key_end = parts[-1]
        path, span = (*path, name), Span(key, key_end, start, end)
        if not array:
            self.spans[path] = span  # a header of its own is a better place than one that only passes through
        else:
            self.spans.setdefault(path, span)
            self.tables[path] = self.tables.get(path, 0) + 1
            path = (*path, self.tables[path] - 1)
            self.spans[path] = span
        self.at = end
        return path

    def parts(self) -> list[tuple[str, int, int]]:
        """The parts of a dotted key, each with its place."""
        found = []
        while match := KEY_PART.match(self.text, self.at):
            raw = match[1]
            name = next(iter(tomllib.loads(f"{raw}=0"))) if raw[0] in "\"'" else raw
            found.append((name, match.start(1), match.end(1)))
            self.at = match.end()
            if self.text[self.at : self.at + 1] != ".":
                break
            self.at += 1
        return found

    def pair(self, table: Path) -> None:
        """`key = value`, also within an inline table."""
        path, met = table, []
        for name, key, key_end in self.parts():
            path = (*path, name)
            met.append((path, key, key_end))
        self.at += 1  # the equals sign
        self.skip()
        start = self.at
        self.value(path)
        for where, key, key_end in met:
            self.spans.setdefault(where, Span(key, key_end, start, self.at))

    def value(self, path: Path) -> None:
        match self.text[self.at]:
            case "[":
                self.array(path)
            case "{":
                self.inline_table(path)
            case '"' | "'":
                self.over(STRING)
            case _:
                self.over(SCALAR)

    def array(self, path: Path) -> None:
        self.at += 1
        index = 0
        while self.skip() != "]":
            start = self.at
            self.value((*path, index))
            self.spans[(*path, index)] = Span(start, self.at, start, self.at)
            index += 1
            self.comma()
        self.at += 1

    def inline_table(self, path: Path) -> None:
        self.at += 1
        while self.skip() != "}":
            self.pair(path)
            self.comma()
        self.at += 1

    def comma(self) -> None:
        if self.skip() == ",":
            self.at += 1

    def over(self, pattern: re.Pattern[str]) -> None:
        if not (match := pattern.match(self.text, self.at)):  # tomllib would have refused the text
            raise AssertionError(f"no value at offset {self.at}")
        self.at = match.end()
