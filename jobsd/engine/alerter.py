"""Tells people: hands due alerts to their channels and sends them, each at least once, none too often.

A fingerprint is told again only after its job's `alert.every`; what happens meanwhile is folded into the next message.
A channel that fails or hangs is tried again later and holds up no other. What a message says is up to the channel.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from time import monotonic

from jobsd.domain.alert import LOG, AlertMessage, Channel
from jobsd.domain.events import AlertTold, DatabaseTrouble, Noted, Observe
from jobsd.domain.job import JobDefinition
from jobsd.registry.settings import AlertSettings
from jobsd.store import alerts
from jobsd.store.alerts import Delivery, Telling
from jobsd.store.db import Db, Unavailable

POLL_S = 10.0  # for what other nodes left behind; everything else wakes it or has its time
RETRY_S = 2.0  # without the database
SEND_S = 30.0  # limit of one message
LEASE = timedelta(seconds=90)  # past that another node sends it: longer than sending and noting it down take
BATCH = 500  # alerts in one message, at most
TIDY_S = 60.0
LOOK_AGAIN_S = 0.05  # when another node has the row that seemed due


class Pace:
    """How soon a channel may say something again: at most `per_minute` messages in any 60 s."""

    def __init__(self, per_minute: int | None) -> None:
        self.sent: deque[float] = deque(maxlen=per_minute)
        self.bounded = per_minute is not None

    def wait_s(self, now: float) -> float:
        """Seconds until the next message may go out; 0 for now."""
        full = self.bounded and len(self.sent) == self.sent.maxlen
        return max(0.0, self.sent[0] + 60.0 - now) if full else 0.0

    def note(self, now: float) -> None:
        if self.bounded:
            self.sent.append(now)


class Alerter:
    """One a node. Channels, settings and jobs come with the registry, and anew with each reload of it."""

    def __init__(
        self,
        db: Db,
        channels: Sequence[Channel],
        settings: AlertSettings,
        observe: Observe,
        jobs: Mapping[str, JobDefinition],
    ) -> None:
        self.on_round: Callable[[], None] = lambda: None
        self._db = db
        self._observe = observe
        self._awake = asyncio.Event()
        self._telling: set[str] = set()  # channels that have a task just now
        self._paces: dict[str, Pace] = {}
        self._tidied = monotonic()
        self.reload(channels, settings, jobs)

    def reload(self, channels: Sequence[Channel], settings: AlertSettings, jobs: Mapping[str, JobDefinition]) -> None:
        """Go on with another registry; messages that are being sent still go where they were going."""
        self._channels = {channel.name: channel for channel in channels}
        self._jobs = jobs
        self._others = Telling(frozenset(self._channels), settings.every)
        self._by_job = {name: self._telling_of(job) for name, job in jobs.items()}
        self._paces = {name: self._paces.get(name) or Pace(each.per_minute) for name, each in self._channels.items()}
        self.wake()

    def _telling_of(self, job: JobDefinition) -> Telling:
        named = self._others.channels if job.alert.channels is None else {LOG, *job.alert.channels}
        every = job.alert.every if "every" in job.alert.model_fields_set else self._others.every
        return Telling(self._others.channels & named, every)

    def wake(self) -> None:
        """There may be a new alert: call it, in the main loop, once the transaction that raised it is committed."""
        self._awake.set()

    async def run(self) -> None:
        """Go on for ever."""
        async with asyncio.TaskGroup() as tellers:
            while True:
                self.on_round()
                self._awake.clear()
                wait_s = await self._look(tellers)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._awake.wait()

    async def _look(self, tellers: asyncio.TaskGroup) -> float:
        """Do what is due; return the seconds until something else is."""
        try:
            agenda = await alerts.agenda(self._db, self._channels)
            if agenda.hand_over_s is not None and agenda.hand_over_s <= 0:
                await alerts.hand_over(self._db, self._by_job, self._others)
                agenda = await alerts.agenda(self._db, self._channels)
            if monotonic() > self._tidied + TIDY_S:
                await self._tidy()
        except Unavailable as error:
            self._observe(DatabaseTrouble("alerter", str(error)))
            return RETRY_S
        waits = {name: wait_s for name, wait_s in agenda.send_s.items() if name not in self._telling}
        for name in [name for name, wait_s in waits.items() if wait_s <= 0]:
            del waits[name]
            self._telling.add(name)
            tellers.create_task(self._tell(self._channels[name]), name=f"tell {name}")
        return max(LOOK_AGAIN_S, min(POLL_S, *waits.values(), agenda.hand_over_s or POLL_S, POLL_S))

    async def _tell(self, channel: Channel) -> None:
        """Send what `channel` is due, as fast as its pace allows, until there is no more."""
        pace = self._paces[channel.name]
        try:
            await asyncio.sleep(pace.wait_s(monotonic()))
            while taken := await alerts.take_due(self._db, channel.name, BATCH, LEASE):
                pace.note(monotonic())
                await self._send(channel, taken)
                await asyncio.sleep(pace.wait_s(monotonic()))
            await asyncio.sleep(LOOK_AGAIN_S)
        except Unavailable as error:
            self._observe(DatabaseTrouble("alerter", str(error)))
            await asyncio.sleep(RETRY_S)
        finally:
            self._telling.discard(channel.name)
            self.wake()

    async def _send(self, channel: Channel, taken: Sequence[Delivery]) -> None:
        error = await self._error_of_sending(channel, [self._message(each) for each in taken])
        for each in taken:
            self._observe(AlertTold(each.type, channel.name, not error, error, each.summary, each.new))
        if error:
            await alerts.failed(self._db, channel.name, taken, error)
        else:
            await alerts.told(self._db, channel.name, taken)

    async def _error_of_sending(self, channel: Channel, messages: Sequence[AlertMessage]) -> str:
        try:
            async with asyncio.timeout(SEND_S):
                await channel.send(messages)
        except TimeoutError:
            return f"no answer within {SEND_S:g} s"
        except Exception as error:  # a channel is foreign code: whatever it raises, the alert is told later
            return str(error) or type(error).__name__
        return ""

    def _message(self, taken: Delivery) -> AlertMessage:
        job = self._jobs.get(taken.job or "")
        return AlertMessage(
            type=taken.type,
            fingerprint=taken.fingerprint,
            summary=taken.summary,
            first_at=taken.first_at,
            last_at=taken.last_at,
            count=taken.count,
            new=taken.new,
            job=taken.job,
            run=taken.run,
            detail=taken.detail,
            owner=job.runbook.owner if job else "",
            on_failure=job.runbook.on_failure if job else "",
        )

    async def _tidy(self) -> None:
        self._tidied = monotonic()
        await alerts.resolve(self._db)
        for channel, count in (await alerts.give_up(self._db)).items():
            self._observe(Noted("alerts_dropped", "error", {"channel": channel, "alerts": count}))
