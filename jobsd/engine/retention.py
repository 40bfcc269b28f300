"""Deletes finished runs that are kept no longer, by any node, in batches, with a commit and an audit entry each."""

from time import monotonic

from jobsd.domain.events import Noted
from jobsd.domain.run import RunId
from jobsd.engine.here import Here
from jobsd.store import retention
from jobsd.store.retention import Kept

EVERY_S = 600.0
BATCH = 1000
LONGEST_S = 60.0  # of one round: what is left then is left for the next


class Retention:
    """A duty of the housekeeper. Nodes that clear at once pass over each other's rows."""

    def __init__(self, here: Here, batch: int = BATCH) -> None:
        self._here = here
        self._batch = batch

    async def clear(self) -> None:
        """One round over all jobs. Raises `Unavailable`; what was committed by then is done."""
        until_s = monotonic() + LONGEST_S
        for kept in await retention.due(self._here.db):
            if monotonic() >= until_s:
                break
            gone = await self._clear(kept, until_s)
            if gone:
                self._here.observe(Noted("runs_deleted", "info", {"job": kept.job, "runs": gone}))

    async def _clear(self, kept: Kept, until_s: float) -> int:
        """Clear one job, the oldest runs first; how many went."""
        latest = kept.keep.latest
        edge = None if latest is None else await retention.surplus(self._here.db, kept.job, latest)
        after: RunId | None = RunId(0)
        gone = 0
        while after is not None and monotonic() < until_s:
            cleared = await retention.clear(self._here.db, kept, edge, after, batch=self._batch, actor=self._here.actor)
            gone, after = gone + cleared.gone, cleared.after
        return gone
