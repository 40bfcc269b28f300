"""The canary: a run of nothing that travels the whole path of a run on this node, again and again (P12).

Asked for in the database, heard of, claimed on the lock session under a lock, executed in a place of its own, settled.
It is no job's and leaves nothing behind. When it does not come back and nothing excuses that, this node gets no work
done, however well each of its parts looks: its loop no longer advances.
"""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from time import monotonic
from typing import Any

from jobsd.domain.events import DatabaseTrouble, Event, Noted, Observe
from jobsd.domain.job import JobDefinition
from jobsd.domain.lifecycle import fingerprint
from jobsd.domain.outcome import AlertRow
from jobsd.domain.run import CANARY, Fence
from jobsd.engine.here import Here
from jobsd.engine.nap import nap
from jobsd.handlers import Handler
from jobsd.store import canary
from jobsd.store.db import Unavailable
from jobsd.store.history import Ended

EVERY_S = 20.0  # from its return to the next one
SILENT_S = 30.0  # without a return for so long beyond that, it counts as hung
AGAIN_S = 10.0  # one that was not taken for so long is sent again: its claim may have been lost with its answer
LOOK_S = 1.0  # whether something excuses it
RETRY_S = 5.0  # without the database
DEFINITION = JobDefinition.model_validate({"name": "canary", "handler": "jobsd.engine.canary:Canary", "timeout": "10s"})


class Canary:
    """Sends it, hears that it was taken, executed and settled, and judges its silence."""

    def __init__(self, here: Here) -> None:
        self.excuse: Callable[[], str] = lambda: ""  # set by the daemon: why nothing is claimed, or written, just now
        self.places: Callable[[], int] = lambda: 1  # set by the daemon: how many are free
        self.on_silent: Callable[[AlertRow], None] = lambda _row: None
        self.latency_s: float | None = None  # the latest one's, from being sent to being settled
        self.to_take: Fence | None = None  # sent, and not taken yet
        self._here = here
        self._numbers = count(1)
        self._under_way: Fence | None = None
        self._executed: Fence | None = None
        self._sent_s = self._good_s = monotonic()
        self._back = asyncio.Event()
        self._silent = False

    async def run(self) -> None:
        """One after the other, for ever."""
        self._good()
        while True:
            if self._excused():
                await asyncio.sleep(LOOK_S)
            elif await self._send():
                await self._return()
            else:
                await asyncio.sleep(RETRY_S)

    # -- what the others tell ---------------------------------------------------------------------------------------

    def taken(self) -> tuple[JobDefinition, Handler]:
        """The claimer has it, and a worker wants to know what to do."""
        self.to_take = None
        return DEFINITION, Handler(self._execute, None, is_async=True)

    async def _execute(self, context: Any) -> None:
        self._executed = context.fence

    def ended(self, ended: Sequence[Ended]) -> None:
        """These are settled, and their locks are given back."""
        if self._under_way in {each.run.fence for each in ended}:
            if self._executed == self._under_way:
                self.latency_s = monotonic() - self._sent_s
                self._good()
            self._under_way = self.to_take = None
            self._back.set()

    # -- its flight -------------------------------------------------------------------------------------------------

    def _excused(self) -> bool:
        """Whether it is no wonder that it does not come back. That work has taken all places is no hang."""
        waits_for_place = self._under_way is None or self.to_take is not None
        if self.excuse() or (waits_for_place and self.places() <= 0):
            self._good()
            self._under_way = self.to_take = None
            return True
        return False

    async def _send(self) -> bool:
        node = self._here.keeper.node
        self._back.clear()
        self._under_way = self.to_take = canary.fence_of(node, next(self._numbers))
        self._sent_s = monotonic()
        try:
            await canary.send(self._here.db, node, self._under_way)
        except Unavailable as gone:
            self._here.observe(DatabaseTrouble("canary", str(gone)))
            self._good()
            return False
        return True

    async def _return(self) -> None:
        """Wait until it is back, and then for the next one's time; or until there is no waiting for this one."""
        while self._under_way is not None:
            if self._excused() or (self.to_take is not None and monotonic() - self._sent_s > AGAIN_S):
                return
            await nap(self._back, LOOK_S)
            self._judge()
        if self._executed is not None:
            self._executed = None
            await asyncio.sleep(EVERY_S)

    def _good(self) -> None:
        self._good_s = monotonic()
        self._here.pulse.advance("canary", allowed_s=EVERY_S + SILENT_S)
        if self._silent:
            self._silent = False
            self._here.observe(Noted("canary_back", "warning", {}))

    def _judge(self) -> None:
        """Tell once that it is silent, and where it was seen last."""
        for_s = monotonic() - self._good_s
        if for_s > EVERY_S + SILENT_S and not self._silent:
            self._silent = True
            where = "sent" if self.to_take else "executed" if self._executed == self._under_way else "taken"
            self._here.observe(Noted("canary_silent", "error", {"for_s": round(for_s, 1), "seen_last": where}))
            self.on_silent(_alert(self._here.who.name, where))


def _alert(node: str, where: str) -> AlertRow:
    return AlertRow(
        type="HEALTH",
        fingerprint=fingerprint("HEALTH", "canary_silent", node),
        summary=f"node {node} gets no work done: its canary run does not come back (seen last: {where})",
        detail={"node": node, "seen_last": where},
    )


def unheard(observe: Observe) -> Observe:
    """Tells all but what happens to canaries: they are nobody's runs."""

    def tell(event: Event) -> None:
        run = getattr(event, "run", None)
        job = event.fields.get("job") if isinstance(event, Noted) else getattr(run, "job", None)
        if job != CANARY:
            observe(event)

    return tell
