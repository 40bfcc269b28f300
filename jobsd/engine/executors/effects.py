"""What an attempt's own transaction came to, as far as it is known here. The block itself is in `transaction`."""

from dataclasses import dataclass, replace
from typing import Any, Protocol

from jobsd.domain.outcome import Committed, Completed, Outcome


class Told(Protocol):
    """Who hears of the transaction's end as it happens."""

    def committing(self) -> None: ...
    def committed(self, end: Committed) -> None: ...
    def undone(self) -> None: ...
    def rehearsed(self, result: Any) -> None: ...


@dataclass(slots=True)
class Effects:
    """What an attempt's own transaction came to, as far as this process knows."""

    end: Committed | None = None
    in_doubt: bool = False  # COMMIT was sent, and no answer has come here
    rehearsal: Any = None  # of a dry run, which undoes it

    def committing(self) -> None:
        self.in_doubt = True

    def committed(self, end: Committed) -> None:
        self.end, self.in_doubt = end, False

    def undone(self) -> None:
        self.in_doubt = False

    def rehearsed(self, result: Any) -> None:
        self.rehearsal = result

    def shown(self, outcome: Outcome) -> Outcome:
        """`outcome`, with what the transaction would have had as its result where a dry run has none."""
        if isinstance(outcome, Completed) and outcome.result is None and self.rehearsal is not None:
            return replace(outcome, result=self.rehearsal)
        return outcome
