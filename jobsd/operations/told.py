"""Who hears of attempts that end without a worker of ours: log and metrics, and whoever waits for the ends of runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jobsd.domain.events import Observe, RunEnded
from jobsd.store.history import Ended


@dataclass(frozen=True, slots=True)
class Told:
    """To be called once the settlements are committed."""

    observe: Observe
    on_ended: Callable[[Sequence[Ended]], object]

    def __call__(self, ended: Sequence[Ended]) -> None:
        for each in ended:
            took_s = (each.ended_at - each.run.started_at).total_seconds()
            self.observe(RunEnded(each.run, each.settlement, took_s))
        if ended:
            self.on_ended(ended)


NOBODY = Told(lambda _event: None, lambda _ended: None)
