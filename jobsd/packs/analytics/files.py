"""Files of rows, plain or gzip: found, opened, read line by line within bounds. The formats know what a row means."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from jobsd.packs.analytics.event import BadInput, BadRow

LONGEST_LINE = 1 << 20  # bytes; what is longer is no row, and would fill the memory


def find(folder: Path, files: Sequence[Path], suffix: str) -> list[Path]:
    """The files to read: `files` inside `folder`, or all of it that end in `suffix` or `suffix`.gz, by name.

    Raises `BadInput` for what is not there.
    """
    if not folder.is_dir():
        raise BadInput(
            f'folder "{folder}" {"is not a folder" if folder.exists() else "does not exist"}{_looked(folder)}'
        )
    if not files:
        found = sorted(p for p in folder.iterdir() if p.name.endswith((suffix, suffix + ".gz")) and p.is_file())
        if not found:
            raise BadInput(f'folder "{folder}" has no file that ends in {suffix} or {suffix}.gz')
        return found
    paths = [folder / file for file in files]
    if missing := [str(path) for path in paths if not path.is_file()]:
        raise BadInput(f"no such file: {', '.join(missing)}")
    return paths


def _looked(folder: Path) -> str:
    return "" if folder.is_absolute() else f" (looked in {Path.cwd()})"


class Source:
    """One open file. Knows the line it is at and how many bytes of it are read, as it is stored."""

    def __init__(self, path: Path, raw: BinaryIO) -> None:
        self.path = path
        self.line = 0
        self._raw = raw
        self._file = cast(BinaryIO, gzip.GzipFile(fileobj=raw, mode="rb")) if path.suffix == ".gz" else raw

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"

    @property
    def read(self) -> int:
        return self._raw.tell()

    def lines(self) -> Iterator[str]:
        """Every line with its end. Raises `BadInput` for what is not text in UTF-8 or not gzip."""
        while raw := self._next():
            self.line += 1
            if len(raw) > LONGEST_LINE:
                raise BadInput(f"{self.place}: longer than {LONGEST_LINE:,} bytes; is it a file of rows?")
            try:
                yield raw.decode("utf-8-sig" if self.line == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise BadInput(f"{self.place}: not UTF-8 text ({error.reason} at byte {error.start + 1})") from error

    def _next(self) -> bytes:
        try:
            return self._file.readline(LONGEST_LINE + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise BadInput(f"{self.path}: cannot be read after line {self.line}: {error}") from error

    def table(self, needed: Sequence[str], optional: Sequence[str] | None = None) -> Iterator[list[str] | BadRow]:
        """The rows of a CSV file as the values of `needed` and `optional`, in this order, "" for an absent column.

        Other columns are left out, or refused where `optional` is given. A row of another length comes as `BadRow`.
        Raises `BadInput` for a header that does not fit, or what is no CSV.
        """
        rows = csv.reader(self.lines(), strict=True)
        try:
            header = next(rows, [])
            places = self._places(header, needed, optional)
            for row in rows:
                if len(row) == len(header):
                    yield ["" if place is None else row[place] for place in places]
                elif row:
                    yield BadRow(f"expected {len(header)} columns, got {len(row)}")
        except csv.Error as error:
            raise BadInput(f"{self.place}: not CSV: {error}") from error

    def _places(self, header: Sequence[str], needed: Sequence[str], optional: Sequence[str] | None) -> list[int | None]:
        if missing := [name for name in needed if name not in header]:
            raise BadInput(f"{self.path}:1: column missing: {', '.join(missing)}; needed: {', '.join(needed)}")
        if len(set(header)) < len(header):
            raise BadInput(f"{self.path}:1: a column stands twice")
        known = (*needed, *(optional or ()))
        if optional is not None and (unknown := [name for name in header if name not in known]):
            raise BadInput(f"{self.path}:1: unknown column: {unknown[0][:40]}; known: {', '.join(known)}")
        return [header.index(name) if name in header else None for name in known]


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Open for the block. Raises `BadInput` when it cannot be."""
    try:
        raw = path.open("rb")
    except OSError as error:
        raise BadInput(f"{path}: cannot be opened: {error.strerror}") from error
    with raw:
        yield Source(path, raw)
