"""An export of the audit, checked by its lines alone: each is an entry, or the seal over those before it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from jobsd.domain.chain import FIRST, Entry, Found, Seal, wrong_with

ENTRY = tuple(Entry.__dataclass_fields__)
SEAL = tuple(Seal.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found, up to the end or to the first thing that does not hold."""

    seals: int
    entries: int  # under those seals
    masked: int  # of them: without a secret that stood there, so that only their digests could be checked
    unsealed: int  # after the last seal
    head: Seal | None
    broken: str | None  # with the number of the line


class _Broken(Exception):
    pass


def verdict(lines: Iterable[str]) -> Verdict:
    """Read it to the end. Nothing is raised: a line that is none of an export is what does not hold."""
    reading = _Reading()
    for number, line in enumerate(lines, 1):
        try:
            reading.line(line)
        except _Broken as broken:
            return reading.verdict(f"line {number}: {broken}")
        except (ValueError, TypeError, KeyError, AttributeError):
            return reading.verdict(f"line {number}: it is no line of an export")
    return reading.verdict(None)


class _Reading:
    """How far the chain was followed."""

    def __init__(self) -> None:
        self._before = FIRST
        self._entries = self._masked = self._masked_now = 0
        self._digests: list[bytes] = []

    def line(self, line: str) -> None:
        record: dict[str, Any] = json.loads(line)
        if record["record"] == "entry":
            self._entry(Entry(*(record[name] for name in ENTRY)), record)
        else:
            self._seal(Seal(*(record[name] for name in SEAL)))

    def _entry(self, entry: Entry, record: dict[str, Any]) -> None:
        digest = bytes.fromhex(record["digest"])
        if record["masked"]:
            self._masked_now += 1
        elif entry.digest != digest:
            raise _Broken(f"this entry of {entry.at} does not read as it did when it was written")
        self._digests.append(digest)

    def _seal(self, seal: Seal) -> None:
        found = Found(len(self._digests), seal.computed(self._digests))
        if reason := wrong_with(self._before, seal, found):
            raise _Broken(f"seal {seal.number}: {reason}")
        self._before = seal
        self._entries += seal.entries
        self._masked += self._masked_now
        self._digests, self._masked_now = [], 0

    def verdict(self, broken: str | None) -> Verdict:
        head = None if self._before is FIRST else self._before
        return Verdict(self._before.number, self._entries, self._masked, len(self._digests), head, broken)
