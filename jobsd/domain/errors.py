"""Errors for the person who reads them: a stable code, the place, what was expected, what came, the next command.

`CODES` is the list that `jobsd explain`, the docs and the tests share. E01xx use of the command line, E02xx registry,
E03xx database, E04xx listener, socket and files, E05xx operations, E06xx embedded database and development mode.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from jobsd.domain.codes import CODES


class Exit(IntEnum):
    """Exit codes of every command (2-design, "Commands")."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CONFIGURATION = 3
    PERMISSION = 4
    NOT_FOUND = 5
    CONFLICT = 6
    UNREACHABLE = 7
    SCHEMA = 8
    RUN_FAILED = 9
    BAD_START = 78  # EX_CONFIG of sysexits.h: `jobsd serve` will not come up by being restarted
    TIMED_OUT = 124


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a file: 1-based line and column, the line's text, how many characters to underline."""

    file: str
    line: int = 0
    column: int = 0
    text: str = ""
    width: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake. `code` is a key of `CODES`; `note` stands beside the caret; `hints` are ways out, one a line."""

    code: str
    message: str
    place: Place | None = None
    note: str = ""
    hints: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise AssertionError(f"error code {self.code} is not in domain/codes.py")

    def render(self) -> str:
        """The problem as a person sees it, several lines, no trailing newline."""
        lines = [f"error[{self.code}]: {self.message}"]
        if self.place:
            at = f":{self.place.line}:{self.place.column}" if self.place.line else ""
            lines.append(f"  --> {self.place.file}{at}")
            if self.place.text:
                gutter = str(self.place.line)
                lines.append(f" {gutter} | {self.place.text}")
                caret = " " * (self.place.column - 1) + "^" * max(1, self.place.width)
                lines.append(f" {' ' * len(gutter)} | {caret}" + (f" {self.note}" if self.note else ""))
        if self.note and not (self.place and self.place.text):
            lines.append(f"  {self.note}")
        lines.extend(f"  {hint}" for hint in self.hints)
        return "\n".join(lines)


@dataclass(eq=False)
class JobsdError(Exception):
    """One or more problems that end what was asked for. `exit_code` is the command line's answer."""

    problems: tuple[Problem, ...]
    exit_code: Exit = Exit.FAILED
    detail: Mapping[str, object] = field(default_factory=dict)  # more for programs, e.g. what is allowed instead

    def __str__(self) -> str:
        return "\n".join(problem.render() for problem in self.problems)


def problem(
    code: str, message: str, *hints: str, exit_code: Exit = Exit.FAILED, place: Place | None = None, note: str = ""
) -> JobsdError:
    """A `JobsdError` of one problem, to be raised."""
    return JobsdError((Problem(code, message, place, note, hints),), exit_code)


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """The known word nearest to a mistyped one, or None."""
    from difflib import get_close_matches

    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return close[0] if close else None
