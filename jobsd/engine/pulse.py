"""How long ago each loop last advanced. Readiness and the watchdog follow this, not the mere process (P12)."""

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic


@dataclass(frozen=True, slots=True)
class Beat:
    age_s: float
    allowed_s: float

    @property
    def alive(self) -> bool:
        return self.age_s <= self.allowed_s


class Pulse:
    """Loops report in; whoever asks gets the ages. Safe to call from any thread: one dictionary write each."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}

    def advance(self, loop: str, allowed_s: float = 30.0) -> None:
        """`loop` has done a round; it counts as hung when the next takes longer than `allowed_s`."""
        self._last[loop] = (monotonic(), allowed_s)

    def beats(self) -> Mapping[str, Beat]:
        now = monotonic()
        return {loop: Beat(now - at, allowed) for loop, (at, allowed) in self._last.items()}

    @property
    def alive(self) -> bool:
        return all(beat.alive for beat in self.beats().values())
