"""What has to be written so that the stored signals are the ones that the rules find now. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobsd.packs.analytics.rules import Signal


@dataclass(frozen=True, slots=True)
class Stored:
    """A signal as it stands in the database."""

    severity: str
    evidence: Mapping[str, object]
    is_cleared: bool
    is_archived: bool  # never written again, whatever is found

    def says(self, found: Signal) -> bool:
        return not self.is_cleared and (self.severity, self.evidence) == (found.severity, found.evidence)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written."""

    new: list[Signal]
    changed: list[Signal]  # other figures, or it holds again
    cleared: list[str]  # keys: held, holds no longer


def compare(found: Sequence[Signal], stored: Mapping[str, Stored]) -> Changes:
    """`stored` are the signals, by key, of the same rules and courses that `found` was sought in."""
    keys = {signal.key for signal in found}
    known = [(signal, stored[signal.key]) for signal in found if signal.key in stored]
    return Changes(
        new=[signal for signal in found if signal.key not in stored],
        changed=[signal for signal, old in known if not old.is_archived and not old.says(signal)],
        cleared=[key for key, old in stored.items() if key not in keys and not old.is_cleared and not old.is_archived],
    )
