"""The configuration's files: which one is taken, what it includes, and where in it something stands."""

import os
import re
import stat
import tomllib
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from glob import glob, has_magic
from pathlib import Path
from typing import Any, Literal

from jobsd.domain.errors import Exit, JobsdError, Place, Problem, problem
from jobsd.registry import positions

SEARCHED = (Path("jobsd.toml"), Path("config/jobsd.toml"), Path("/etc/jobsd/jobsd.toml"))
WIDEST = 160  # of a line that is shown
Part = Literal["key", "value"]


@dataclass(frozen=True)
class File:
    """One TOML file, read whole."""

    path: Path
    text: str
    data: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return shown(self.path)

    @cached_property
    def spans(self) -> Mapping[positions.Path, positions.Span]:
        return positions.positions(self.text)

    @cached_property
    def line_starts(self) -> list[int]:
        return [0, *(found.end() for found in re.finditer("\n", self.text))]

    def place(self, path: positions.Path, part: Part = "value", within: tuple[int, int] | None = None) -> Place:
        """Where `path` stands, or the nearest table around it. `within`: offset and width inside a string's text."""
        while path and path not in self.spans:
            path, part, within = path[:-1], "key", None
        if not path:
            return Place(self.name)
        span = self.spans[path]
        if part == "key" or (self.text[span.value] == "[" and span.value < span.key):
            return self.at(span.key, span.key_end)
        start, end = span.value, span.value_end
        if within and plain(self.text[start:end]):
            start += 1 + within[0]
            end = start + within[1]
        return self.at(start, end)

    def at(self, start: int, end: int) -> Place:
        """The place of text from `start` to `end`, underlined up to the end of its first line."""
        first = self.text.rfind("\n", 0, start) + 1
        last = self.text.find("\n", start)
        line = self.text[first : last if last >= 0 else None].replace("\t", " ")
        width = max(1, min(end, first + len(line)) - start)
        number, column = bisect_right(self.line_starts, start), start - first + 1
        if column + width > WIDEST:  # the caret would be far out
            return Place(self.name, number, column)
        return Place(self.name, number, column, line[:WIDEST].rstrip(), width)


def plain(raw: str) -> bool:
    """Whether a string's characters stand in the file as they are, one quote before them."""
    return raw[:1] in ('"', "'") and raw[:3] not in ('"""', "'''") and "\\" not in raw and "${" not in raw


def shown(path: Path) -> str:
    """`path` as people see it: from here when it is below here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def find(path: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The configuration that holds: `path` (--config), JOBSD_CONFIG, or the first of `SEARCHED` that exists."""
    if named := path or environ.get("JOBSD_CONFIG"):
        return Path(named)
    return next((file for file in SEARCHED if file.is_file()), None)


def none_found() -> JobsdError:
    return problem(
        "E0201",
        "no configuration file was found",
        f"looked for: {', '.join(map(str, SEARCHED))}",
        "name one with --config FILE or JOBSD_CONFIG, or try jobsd without one: jobsd dev",
        exit_code=Exit.CONFIGURATION,
    )


def read(path: Path) -> File:
    """Read and parse one file. Raises `JobsdError` with E0202, E0203, E0207 or E0224."""
    try:
        raw, loose = path.read_bytes(), open_to_all(path)
    except OSError as error:
        raise _refused("E0202", f"cannot read {shown(path)}: {(error.strerror or str(error)).lower()}") from error
    if loose:
        raise _refused("E0224", *loose.told(path, "whoever writes it decides what runs here"))
    try:
        text = raw.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _refused("E0203", f"{shown(path)} is not UTF-8: byte 0x{raw[error.start]:02x} in line {line}") from error
    try:
        return File(path, text, tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise JobsdError((_not_toml(path, text, error),), Exit.CONFIGURATION) from error


@dataclass(frozen=True, slots=True)
class Loose:
    """What anyone can write to: a file, or the folder in which anyone can put another file in its place."""

    path: Path
    mode: int

    def told(self, file: Path, why: str) -> tuple[str, str]:
        """The message, and the way out."""
        inside = "" if self.path == file else f"{shown(file)} can be replaced: "
        said = f"{inside}{shown(self.path)} can be written by anyone (mode {self.mode:04o})"
        return said, f"{why}: chmod o-w {shown(self.path)}"


def open_to_all(file: Path) -> Loose | None:
    """Why anyone can change what `file` holds, if so. In a sticky folder such as /tmp its owner alone replaces it."""
    mode = file.stat().st_mode
    if mode & stat.S_IWOTH:
        return Loose(file, stat.S_IMODE(mode))
    for folder in (file.parent, file.resolve().parent):
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return Loose(folder, stat.S_IMODE(mode))
    return None


def _refused(code: str, message: str, *hints: str) -> JobsdError:
    return problem(code, message, *hints, exit_code=Exit.CONFIGURATION)


def _not_toml(path: Path, text: str, error: tomllib.TOMLDecodeError) -> Problem:
    """Where the parser stopped. A job's table that is there already is told as the twin that it is."""
    message = re.sub(r" \(at .*\)$", "", str(error))
    found = re.search(r"at line (\d+), column (\d+)", str(error))
    lines = text.split("\n")
    row, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    start = sum(len(line) + 1 for line in lines[: row - 1])
    file = File(path, text, {})
    if twin := re.match(r"Cannot declare \('jobs', '([^']+)'\) twice", message):
        before = File(path, text[:start], {})
        earlier, again = before.place(("jobs", twin[1]), "key"), start + lines[row - 1].find(twin[1])
        return twins(twin[1], earlier, file.at(again, again + len(twin[1])))
    at = start + column - 1
    return Problem("E0203", f"not valid TOML: {message[:1].lower()}{message[1:]}", file.at(at, at + 1))


def twins(job: str, earlier: Place, later: Place) -> Problem:
    note = f"first declared at {earlier.file}:{earlier.line}:{earlier.column}"
    return Problem("E0207", f'job "{job}" is declared twice', later, note)


def included(root: File) -> Iterator[Path | Problem]:
    """The files that `include` of `root` names, each once, in its order; a pattern's matches by name."""
    patterns = root.data.get("include", [])
    if not isinstance(patterns, list):
        place = root.place(("include",))
        yield Problem("E0205", 'include: expected a list of files or patterns, like ["jobs.d/*.toml"]', place)
        return
    seen = {root.path.resolve()}
    for index, pattern in enumerate(patterns):
        place = root.place(("include", index))
        if not isinstance(pattern, str):
            yield Problem("E0205", "include: expected a file or pattern in quotes", place)
            continue
        found = matching(root.path.parent, pattern)
        if not found:
            where = f"looked in {shown(root.path.parent)}"
            yield Problem("E0208", f'include: nothing matches "{pattern}"', place, where)
        for path in found:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files of `pattern`, which counts from `folder` unless it is absolute."""
    whole = folder / pattern
    if not has_magic(pattern):
        return [whole] if whole.is_file() else []
    names = glob(pattern, root_dir=folder, recursive=True)  # noqa: PTH207 Path.glob refuses an absolute pattern
    return sorted(found for name in names if (found := folder / name).is_file())
