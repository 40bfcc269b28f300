"""Takes a few presentations out of the Open University Learning Analytics Dataset: the input of the demo and the tests.

    python config/demo/extract_oulad.py FOLDER_OF_THE_WHOLE_SET [TO_FOLDER]

Lines are copied as they are. The same input gives the same bytes, so the result is kept in the repository.
"""

import csv
import gzip
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

# A small module without quizzes, and a presentation with every kind of assessment that many left
PRESENTATIONS = {("AAA", "2013J"), ("AAA", "2014J"), ("CCC", "2014B")}
BY_PRESENTATION = ("courses.csv", "assessments.csv", "studentRegistration.csv", "studentInfo.csv")
SUBMISSIONS = "studentAssessment.csv"

Row = dict[str, str]


def lines(path: Path, wanted: Callable[[Row], bool]) -> Iterator[str]:
    """The header and every line whose row is wanted, word for word. No field of the set holds a line break."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        header = file.readline()
        yield header
        names = next(csv.reader([header]))
        for line in file:
            if wanted(dict(zip(names, next(csv.reader([line])), strict=True))):
                yield line


def extract(whole: Path, to: Path) -> None:
    """Write the chosen presentations of the set in `whole` into `to`, one file for each of its five."""
    to.mkdir(parents=True, exist_ok=True)
    for name in BY_PRESENTATION:
        write(to, name, lines(whole / f"{name}.gz", is_chosen))
    with gzip.open(to / "assessments.csv.gz", "rt", encoding="utf-8", newline="") as file:
        assessments = {row["id_assessment"] for row in csv.DictReader(file)}
    write(to, SUBMISSIONS, lines(whole / f"{SUBMISSIONS}.gz", lambda row: row["id_assessment"] in assessments))


def is_chosen(row: Row) -> bool:
    return (row["code_module"], row["code_presentation"]) in PRESENTATIONS


def write(to: Path, name: str, text: Iterator[str]) -> None:
    # No name and no time in the header of the gzip file: they would change the bytes
    with (to / f"{name}.gz").open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as file:
        file.writelines(line.encode() for line in text)


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3}:
        sys.exit(__doc__)
    extract(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) == 3 else Path(__file__).parent / "oulad")
