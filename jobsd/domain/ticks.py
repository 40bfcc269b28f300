"""The instants of a schedule, in whole seconds since the epoch: found and counted by arithmetic, never by a walk.

Here live the four rules for daylight saving. `starts`, `ends` and blackouts are laid over the ticks in `domain.limits`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple, Protocol

from jobsd.domain.wall import Wall
from jobsd.domain.zone import FIRST_YEAR, LAST_YEAR, Piece, instant_of, pieces, year_of

Rule = Literal["debian", "literal", "skip", "once"]
CORRECTION = 3 * 3600  # Debian: a change of the clock by more seconds is a correction, not daylight saving
HORIZON = 100  # years that are searched for the next or the last tick


class Lost(NamedTuple):
    """Wall times that one jump of the clock takes away; an instant (µs since the epoch) for each, in order."""

    instants: list[int]
    reason: str


class Ticks(Protocol):
    """Instants in whole seconds since the epoch."""

    def __hash__(self) -> int:
        """Ticks are keys of caches."""

    def next(self, after: int) -> int | None:
        """The first tick after a second."""

    def last(self, until: int) -> int | None:
        """The last tick at or before a second."""

    def count(self, after: int, until: int) -> int:
        """How many ticks are after the one and not after the other second."""

    def lost(self, after: int, until: int) -> Iterator[Lost]:
        """What daylight saving takes away near (after, until], in order; the ends are for the caller to cut."""


@dataclass(frozen=True, slots=True)
class IntervalTicks:
    """offset + n * every seconds."""

    every: int
    offset: int

    def next(self, after: int) -> int | None:
        return after + self.every - (after - self.offset) % self.every

    def last(self, until: int) -> int | None:
        return until - (until - self.offset) % self.every

    def count(self, after: int, until: int) -> int:
        return max((until - self.offset) // self.every - (after - self.offset) // self.every, 0)

    def lost(self, after: int, until: int) -> Iterator[Lost]:
        return iter(())


@dataclass(frozen=True, slots=True)
class CronTicks:
    """Wall times of a zone as instants, under one of four rules for the hours that a clock skips or shows twice.

    debian: a job at fixed times runs right after a gap that took its time, and once, at the first, in a repeated hour;
    a job with a wildcard in minute or hour follows real time; a change of more than 3 h is a correction, after which
    the new time simply holds. literal: every real minute whose wall clock matches. skip: nothing for a gap, repeated
    times once. once: every wall time once, those of a gap right after it.

    All of a gap's times that run right after it are one tick. Times that are lost get an instant each: a repeated one
    its own second occurrence; one of a gap as many microseconds before the jump as it is minutes before the gap's end,
    so that it falls between the ticks, which are whole seconds.
    """

    wall: Wall
    zone: str
    rule: Rule
    fixed: bool  # neither the minute nor the hour field begins with a star

    def next(self, after: int) -> int | None:
        for year in range(max(year_of(after + 1), FIRST_YEAR), min(year_of(after) + HORIZON, LAST_YEAR) + 1):
            for piece in pieces(self.zone, year):
                if piece.end <= after + 1:
                    continue
                if piece.start > after and self._runs_after_gap(piece):
                    return piece.start
                start = max(self._begin(piece), after + 1 + piece.offset)
                if (match := self.wall.next(start, piece.end + piece.offset)) is not None:
                    return match - piece.offset
        return None

    def last(self, until: int) -> int | None:
        for year in range(min(year_of(until), LAST_YEAR), max(year_of(until) - HORIZON, FIRST_YEAR) - 1, -1):
            for piece in reversed(pieces(self.zone, year)):
                if piece.start > until:
                    continue
                end = min(piece.end, until + 1) + piece.offset
                if (match := self.wall.last(self._begin(piece), end)) is not None:
                    return match - piece.offset
                if self._runs_after_gap(piece):
                    return piece.start
        return None

    def count(self, after: int, until: int) -> int:
        total = 0
        for piece in self._pieces(after, until):
            start = max(self._begin(piece), after + 1 + piece.offset)
            total += self.wall.count(start, min(piece.end, until + 1) + piece.offset)
            if after < piece.start <= until and self._runs_after_gap(piece) and not self._matches(piece):
                total += 1
        return total

    def lost(self, after: int, until: int) -> Iterator[Lost]:
        for piece in self._pieces(after, until + 1):
            if piece.gap and (lost := self._lost_in_gap(piece)):
                end = piece.start + piece.offset
                instants = [piece.start * 1_000_000 - -(-(end - wall) // 60) for wall in lost]
                yield Lost(instants, f"{_span(lost)} did not exist: the clock went {_jump(end - piece.gap, end)}")
            begin = piece.start + piece.offset
            if self._begin(piece) > begin and (lost := self._matches_in(begin, piece.fresh)):
                instants = [(wall - piece.offset) * 1_000_000 for wall in lost]
                went = _jump(piece.fresh, piece.fresh - piece.back)
                yield Lost(instants, f"{_span(lost)} had been already: the clock went {went}")

    def in_place_of(self, tick: int) -> str:
        """The wall times of a gap for which a tick right after it runs, in words; nothing for any other tick."""
        for piece in self._pieces(tick - 1, tick):
            if piece.start == tick and self._runs_after_gap(piece):
                return _span(self._matches_in(tick + piece.offset - piece.gap, tick + piece.offset))
        return ""

    def _pieces(self, after: int, until: int) -> Iterator[Piece]:
        for year in range(max(year_of(after + 1), FIRST_YEAR), min(year_of(max(until, after)), LAST_YEAR) + 1):
            for piece in pieces(self.zone, year):
                if piece.end > after + 1 and piece.start <= until:
                    yield piece

    def _begin(self, piece: Piece) -> int:
        """The wall time from which a piece's matches are ticks: later than its start where repeated ones run once."""
        debian = self.rule == "debian" and self.fixed and piece.back <= CORRECTION
        return piece.fresh if debian or self.rule in ("skip", "once") else piece.start + piece.offset

    def _makes_up(self, piece: Piece) -> bool:
        debian = self.rule == "debian" and self.fixed and piece.gap <= CORRECTION
        return debian or self.rule == "once"

    def _runs_after_gap(self, piece: Piece) -> bool:
        end = piece.start + piece.offset
        return bool(piece.gap) and self._makes_up(piece) and self.wall.next(end - piece.gap, end) is not None

    def _matches(self, piece: Piece) -> bool:
        return self.wall.count(piece.start + piece.offset, piece.start + piece.offset + 1) > 0

    def _lost_in_gap(self, piece: Piece) -> list[int]:
        """The gap's wall times that nothing runs for on their own: the first is made up for, if the rule says so."""
        if self.rule == "debian" and not self.fixed:
            return []
        end = piece.start + piece.offset
        lost = self._matches_in(end - piece.gap, end)
        return lost[1:] if self._makes_up(piece) and not self._matches(piece) else lost

    def _matches_in(self, start: int, end: int) -> list[int]:
        found = []
        while (match := self.wall.next(start, end)) is not None:
            found.append(match)
            start = match + 60
        return found


def _span(walls: list[int]) -> str:
    if len(walls) == 1:
        return _wall_time(walls[0])
    return f"{_wall_time(walls[0])} to {_wall_time(walls[-1])}"


def _jump(start: int, end: int) -> str:
    if abs(end - start) >= timedelta(hours=12).total_seconds():
        return f"from {instant_of(start):%Y-%m-%d %H:%M} to {instant_of(end):%Y-%m-%d %H:%M}"
    return f"from {_wall_time(start)} to {_wall_time(end)}"


def _wall_time(wall: int) -> str:
    return f"{instant_of(wall):%H:%M}"
