"""The metrics: counted from events alone, so that no job can forge or forget one. The only user of prometheus_client.

Labels come from fixed sets and from the registry, so that nothing a job does makes a new series.
"""

import time
from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from jobsd.domain.alert import TYPES
from jobsd.domain.events import (
    AlertTold,
    Event,
    LockSession,
    RegistryReloaded,
    RunEnded,
    RunRefused,
    RunsLost,
    RunStarted,
    SlotDecided,
)
from jobsd.domain.run import ClaimedRun
from jobsd.domain.slot import Decision
from jobsd.observe.series import Counters, Family, Gauges, Histograms

REMOVED = "(removed)"  # the job of an event that is no longer, or not yet, in the registry
OUTCOMES = ("completed", "failed", "timed_out", "interrupted", "cancelled", "deferred", "lost")
KINDS = ("exception", "exit", "signal", "http", "sql", "result", "start", "timeout", "interrupted", "lost", "other")
DURATIONS_MS = (10, 50, 100, 500, 1_000, 5_000, 15_000, 60_000, 300_000, 900_000, 3_600_000)
LAGS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
RESULTS = ("told", "failed")


class Metrics:
    """Feed it every event, and the gauges that no event carries. For the main loop's thread, but for `loop_lag`."""

    def __init__(self, jobs: Iterable[str] = ()) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        self._running: dict[tuple[int, int], str] = {}  # run and fence, to the job
        self._of_jobs()
        self._of_slots()
        self._of_node()
        self.know(jobs)

    def _of_jobs(self) -> None:
        self._runs = Counters("job_runs_total", "Attempts that are over, by outcome.", "outcome", OUTCOMES)
        self._failures = Counters("job_failures_total", "Attempts that did not complete, by kind.", "kind", KINDS)
        self._durations = Histograms("job_duration_ms", "How long attempts took, in milliseconds.", DURATIONS_MS)
        self._successes = Gauges("jobsd_last_success_timestamp_seconds", "When the job last completed, as Unix time.")
        self._runnings = Gauges("jobsd_running", "Runs of the job that this node executes now.", 0.0)
        self._by_job: tuple[Family, ...] = (
            self._runs,
            self._failures,
            self._durations,
            self._successes,
            self._runnings,
        )

    def _of_slots(self) -> None:
        own = self.registry
        slots = Counter("jobsd_slots", "Slots of schedules, by their final decision.", ["decision"], registry=own)
        self._slots = {each.value: slots.labels(each.value) for each in Decision if each is not Decision.WAITING}
        self._slot_lag = Histogram(
            "jobsd_slot_lag_seconds", "From a slot to the decision that it runs.", buckets=LAGS_S, registry=own
        )
        self._pickup = Histogram(
            "jobsd_pickup_seconds", "From a run being due to its claim.", buckets=LAGS_S, registry=own
        )
        self._queue = Gauge("jobsd_queue_depth", "Runs that are not over, by state.", ["state"], registry=own)
        self._oldest = Gauge("jobsd_oldest_queued_seconds", "How long the oldest due run has waited.", registry=own)

    def _of_node(self) -> None:
        own = self.registry
        self._fenced = Counter(
            "jobsd_fenced", "Times that this node fenced itself, and results that were refused.", registry=own
        )
        self._lost = Counter("jobsd_lost", "Runs of dead nodes that this node settled as lost.", registry=own)
        self._loops = Gauge(
            "jobsd_loop_last_advance_timestamp_seconds", "When a loop last advanced.", ["loop"], registry=own
        )
        self._loop_lag = Gauge("jobsd_event_loop_lag_seconds", "How late the event loop answers.", registry=own)
        self._unwritten = Gauge(
            "jobsd_unwritten_settlements", "Outcomes that the database has not taken yet.", registry=own
        )
        self._spooled = Gauge("jobsd_spooled_settlements", "Of them, those on disk for the next start.", registry=own)
        self._canary = Gauge(
            "jobsd_canary_seconds", "How long the latest canary run took, from being sent to settled.", registry=own
        )
        self._canary.set(float("nan"))
        self._lock_session = Gauge("jobsd_lock_session_up", "1 while the lock session is proven.", registry=own)
        self._reload = Gauge("jobsd_config_last_reload_success", "1 if the last reload was accepted.", registry=own)
        self._reload.set(1)
        alerts = Counter("jobsd_alerts", "Messages to channels, by result.", ["type", "result"], registry=own)
        kinds = (*sorted(TYPES), "other")
        self._alerts = {(kind, result): alerts.labels(kind, result) for kind in kinds for result in RESULTS}

    def know(self, jobs: Iterable[str]) -> None:
        """Have series for these jobs, from 0 on, and for no others: call it at the start and at each reload."""
        self._jobs = dict.fromkeys(jobs)
        for family in self._by_job:
            family.keep((*self._jobs, REMOVED))

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted(run, pickup_s, here=True):
                self._pickup.observe(max(0.0, pickup_s))
                self._begin(run)
            case RunEnded():
                self._end(event)
            case RunRefused(run):
                self._fenced.inc()
                self._leave(run)
            case SlotDecided():
                self._decide(event)
            case LockSession(state):
                self._lock(state)
            case RunsLost(_, runs):
                self._lost.inc(runs)
            case RegistryReloaded(ok):
                self._reload.set(ok)
            case AlertTold(kind, _, ok):
                self._alerts[kind if kind in TYPES else "other", "told" if ok else "failed"].inc()
            case _:  # told in the log alone
                return

    def _label(self, job: str) -> str:
        return job if job in self._jobs else REMOVED

    def _begin(self, run: ClaimedRun) -> None:
        job = self._running[run.id, run.fence] = self._label(run.job)
        self._runnings.put(job, self._runnings.get(job) + 1)

    def _leave(self, run: ClaimedRun) -> None:
        job = self._running.pop((run.id, run.fence), None)
        if job in self._jobs or job == REMOVED:
            self._runnings.put(job, max(0.0, self._runnings.get(job) - 1))

    def _end(self, event: RunEnded) -> None:
        self._leave(event.run)
        job, settlement = self._label(event.run.job), event.settlement
        self._runs.add(job, settlement.outcome)
        self._durations.observe(job, event.duration_s * 1000)
        if settlement.outcome == "completed":
            self._successes.put(job, event.run.started_at.timestamp() + event.duration_s)
        elif settlement.outcome not in ("cancelled", "deferred"):
            self._failures.add(job, kind_of(settlement.error_kind))

    def _decide(self, event: SlotDecided) -> None:
        if event.decision in self._slots:
            self._slots[event.decision].inc(event.count)
        if event.decision == Decision.RAN:
            self._slot_lag.observe(max(0.0, event.lag_s))

    def _lock(self, state: str) -> None:
        self._lock_session.set(state in ("up", "adopted"))
        if state == "fenced":
            self._fenced.inc()
            for job in {*self._running.values()} & {*self._jobs, REMOVED}:
                self._runnings.put(job, 0.0)
            self._running.clear()

    def queue(self, depth: Mapping[str, int], oldest_s: float) -> None:
        """Runs by state (queued, running), and the age of the oldest run that is due."""
        self._queue.clear()
        for state, count in depth.items():
            self._queue.labels(state).set(count)
        self._oldest.set(oldest_s)

    def loops(self, ages: Mapping[str, float]) -> None:
        """Seconds since each loop last advanced (`Pulse.ages`)."""
        now = time.time()
        for loop, age_s in ages.items():
            self._loops.labels(loop).set(now - age_s)

    def unwritten(self, count: int, spooled: int) -> None:
        """Settlements that wait for the database, and how many of them are in the spool."""
        self._unwritten.set(count)
        self._spooled.set(spooled)

    def canary(self, took_s: float | None) -> None:
        """The latest canary's latency; None before the first."""
        if took_s is not None:
            self._canary.set(took_s)

    def successes(self, at: Mapping[str, float]) -> None:
        """When each job last completed, as Unix time: from the database, once at the start."""
        for job, instant in at.items():
            if job in self._jobs:
                self._successes.put(job, max(instant, self._successes.get(job)))

    def loop_lag(self, lag_s: float) -> None:
        """From any thread."""
        self._loop_lag.set(lag_s)

    def render(self) -> tuple[bytes, str]:
        """The text for a scrape, and its content type."""
        text = "".join(family.render() for family in self._by_job)
        return text.encode() + generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4


def kind_of(error_kind: str | None) -> str:
    """One of KINDS: exceptions are named for their class, which begins with a capital."""
    if error_kind in KINDS:
        return error_kind
    return "exception" if error_kind and error_kind[0].isupper() else "other"
