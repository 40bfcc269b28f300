"""Seals the audit about once a minute, and reads the whole chain once a day for links that no longer hold.

Any node does, with no leader: the database lets one seal at a time. What a node has seen of the chain it remembers, so
that a chain which somebody wrote anew is found while the node lives.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from time import monotonic

from jobsd.domain.chain import FIRST, Seal, wrong_with
from jobsd.domain.events import Noted
from jobsd.domain.outcome import AlertRow
from jobsd.engine.here import Here
from jobsd.store import seal
from jobsd.store.alerts import raise_alerts
from jobsd.store.seal import Sealed, Waiting

EVERY_S = 60.0
MOST = 20_000  # entries of one seal, about
STEP_SEALS, STEP_ENTRIES = 500, 20_000  # read again in one round
ROUND_S = 30.0
PASS_S = 86_400.0
LATE = timedelta(minutes=15)


class Sealer:
    """A duty of the housekeeper."""

    def __init__(self, here: Here) -> None:
        self.on_alert: Callable[[], object] = lambda: None
        self._here = here
        self._since: int | None = None  # what a new era waits for
        self._late = False
        self._head = FIRST  # the latest seal that this node has seen
        self._checked: Seal | None = FIRST  # how far the pass through the chain is; None between two
        self._next_pass = 0.0

    async def round(self) -> None:
        """Seal what there is, then look at some of what was sealed before. Raises `Unavailable`."""
        await self._compare()
        await self._seal_all()
        self._head = await seal.head(self._here.db) or FIRST
        await self._tell_of_late()
        await self._check()

    async def _compare(self) -> None:
        """Hold the latest seal that was seen against what is in its place now."""
        seen, now = self._head, await seal.numbered(self._here.db, self._head.number)
        if now != seen:
            what = "is gone" if now is None else "is another one now"
            await self._tell(seen.number, f"the seal of {seen.at} that this node saw {what}")

    async def _seal_all(self) -> None:
        end = monotonic() + ROUND_S
        while monotonic() < end:
            made = await seal.seal(self._here.db, self._here.actor, MOST, self._since)
            if isinstance(made, Waiting):
                self._since = made.since
            if not isinstance(made, Sealed):
                break
            self._since = None
            facts = {"seal": made.number, "entries": made.entries, "hash": made.hash}
            self._here.observe(Noted("audit_sealed", "info", facts))

    async def _tell_of_late(self) -> None:
        """Once, when something has kept entries from being sealed for long: a transaction that does not end."""
        left = await seal.unsealed(self._here.db, self._head)
        late = left.since is not None and datetime.now(UTC) - left.since > LATE
        if late and not self._late:
            facts = {"entries": left.entries, "since": left.since}
            self._here.observe(Noted("audit_not_sealed", "warning", facts))
        self._late = late

    async def _check(self) -> None:
        if self._checked is None and monotonic() >= self._next_pass:
            self._checked = FIRST
        if self._checked is not None:
            await self._go_on(self._checked)

    async def _go_on(self, before: Seal) -> None:
        """Check the links after `before`. The pass is over at the chain's end, and at the first that does not hold."""
        links = await seal.links(self._here.db, before.number, STEP_SEALS, STEP_ENTRIES)
        for link, found in links:
            if reason := wrong_with(before, link, found):
                await self._tell(link.number, reason)
                links = []
                break
            before = link
        self._checked = before if links and before.number < self._head.number else None
        if self._checked is None:
            self._next_pass = monotonic() + PASS_S

    async def _tell(self, number: int, reason: str) -> None:
        self._here.observe(Noted("chain_broken", "error", {"seal": number, "reason": reason}))
        summary = f"the audit's chain is broken at seal {number}: {reason}"
        detail = {"seal": number, "command": "jobsd audit verify"}
        await raise_alerts(self._here.db, [AlertRow("AUDIT_BROKEN", "AUDIT_BROKEN", summary, detail=detail)])
        self.on_alert()
