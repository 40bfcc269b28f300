"""The event as all formats bring it, and the mistakes in a file as a person reads them. No database, no files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

KIND = re.compile(r"[a-z][a-z0-9_]{0,49}")
MISTAKES_TOLD = 20  # of all the mistakes in a set of files


class Event(NamedTuple):
    """One fact. `source_key` names it at its source and says nothing of our dates, so that moving them moves no key."""

    source_key: str
    course_id: str
    learner_id: str
    kind: str
    value: Mapping[str, object]
    occurred_at: datetime
    day_unknown: bool = False  # the source has no day: it counts as the start of its course


class BadRow(ValueError):
    """A row that is no event; worded for the file's author, without its place."""


class BadInput(ValueError):
    """Files that cannot be imported: every mistake with its file and line, up to `MISTAKES_TOLD`."""


@dataclass(slots=True)
class Mistakes:
    """Gathers what is wrong, so that all of it is told at once."""

    told: list[str]
    count: int = 0

    def add(self, place: str, text: str) -> None:
        self.count += 1
        if self.count <= MISTAKES_TOLD:
            self.told.append(f"{place}: {text}")

    def raise_any(self) -> None:
        """Raises `BadInput` when there was any."""
        if self.count:
            more = [f"and {self.count - MISTAKES_TOLD} more"] if self.count > MISTAKES_TOLD else []
            raise BadInput("\n".join(["nothing was imported:", *self.told, *more]))


def score_of(text: str) -> float | int | None:
    """A score as it stands in a file; None for "" and "?". Raises `BadRow` unless it is 0 to 100."""
    if text in {"", "?"}:
        return None
    try:
        score = float(text)
    except ValueError:
        score = -1
    if not 0 <= score <= 100:
        raise BadRow(f'expected a score from 0 to 100, got "{text[:40]}"')
    return int(score) if score.is_integer() else score
