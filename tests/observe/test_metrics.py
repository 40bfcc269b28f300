"""The metrics: exactly the documented names, counted from events, and no series that a job can make."""

from collections.abc import Mapping

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jobsd.domain.alert import TYPES
from jobsd.domain.events import (
    AlertTold,
    LockSession,
    RegistryReloaded,
    RunRefused,
    RunsLost,
    RunStarted,
    SlotDecided,
)
from jobsd.domain.outcome import Settlement
from jobsd.domain.run import RunState
from jobsd.domain.slot import Decision
from jobsd.observe.metrics import KINDS, Metrics
from tests.observe.events import NOW, cancelled, claimed, completed, deferred, failed, retried

NAMES = {  # 2-design, "Metrics": name, type, labels
    "job_runs_total": ("counter", {"job", "outcome"}),
    "job_failures_total": ("counter", {"job", "kind"}),
    "job_duration_ms": ("histogram", {"job"}),
    "jobsd_slot_lag_seconds": ("histogram", set()),
    "jobsd_pickup_seconds": ("histogram", set()),
    "jobsd_slots_total": ("counter", {"decision"}),
    "jobsd_queue_depth": ("gauge", {"state"}),
    "jobsd_oldest_queued_seconds": ("gauge", set()),
    "jobsd_last_success_timestamp_seconds": ("gauge", {"job"}),
    "jobsd_running": ("gauge", {"job"}),
    "jobsd_fenced_total": ("counter", set()),
    "jobsd_lost_total": ("counter", set()),
    "jobsd_loop_last_advance_timestamp_seconds": ("gauge", {"loop"}),
    "jobsd_event_loop_lag_seconds": ("gauge", set()),
    "jobsd_lock_session_up": ("gauge", set()),
    "jobsd_unwritten_settlements": ("gauge", set()),
    "jobsd_spooled_settlements": ("gauge", set()),
    "jobsd_canary_seconds": ("gauge", set()),
    "jobsd_config_last_reload_success": ("gauge", set()),
    "jobsd_alerts_total": ("counter", {"type", "result"}),
}


def samples(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text, _ = metrics.render()
    families = text_string_to_metric_families(text.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return samples(metrics).get((name, frozenset(labels.items())))


@pytest.mark.req("C5")
def test_the_names_types_and_labels_are_those_of_the_design_and_no_others() -> None:
    metrics = Metrics(["daily_report"])
    metrics(completed(claimed()))
    metrics.queue({"queued": 3, "running": 1}, 2.5)
    metrics.loops({"claimer": 0.1})

    text, content_type = metrics.render()

    found: dict[str, tuple[str, set[str]]] = {}
    for family in text_string_to_metric_families(text.decode()):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        assert family.documentation
        found[name] = (family.type, {label for sample in family.samples for label in sample.labels} - {"le"})
    assert found == NAMES
    assert content_type.startswith("text/plain; version=0.0.4")


@pytest.mark.req("C5")
def test_a_known_job_has_its_counters_at_zero_before_it_first_runs() -> None:
    metrics = Metrics(["daily_report"])

    assert value(metrics, "job_runs_total", job="daily_report", outcome="failed") == 0
    assert all(value(metrics, "job_failures_total", job="daily_report", kind=kind) == 0 for kind in KINDS)
    assert value(metrics, "jobsd_running", job="daily_report") == 0
    assert all(value(metrics, "jobsd_alerts_total", type=kind, result="failed") == 0 for kind in TYPES)


@pytest.mark.req("C5")
def test_runs_failures_durations_and_the_last_success_are_counted_from_events() -> None:
    metrics = Metrics(["daily_report"])

    for event in (completed(claimed(run=1), 0.07), failed(claimed(run=2)), failed(claimed(run=3), "exit")):
        metrics(RunStarted(event.run, 0.02))
        metrics(event)
    metrics(retried(claimed(run=4)))

    assert value(metrics, "job_runs_total", job="daily_report", outcome="completed") == 1
    assert value(metrics, "job_runs_total", job="daily_report", outcome="failed") == 3
    assert value(metrics, "job_failures_total", job="daily_report", kind="exception") == 2
    assert value(metrics, "job_failures_total", job="daily_report", kind="exit") == 1
    assert value(metrics, "job_duration_ms_count", job="daily_report") == 4
    assert value(metrics, "job_duration_ms_sum", job="daily_report") == pytest.approx(670)
    assert value(metrics, "jobsd_pickup_seconds_count") == 3
    assert value(metrics, "jobsd_last_success_timestamp_seconds", job="daily_report") == NOW.timestamp() + 0.07


def test_a_histograms_buckets_are_cumulative_and_bounds_belong_to_their_bucket() -> None:
    metrics = Metrics(["daily_report"])

    for duration_s in (0.010, 0.050, 0.051, 7200):
        metrics(completed(claimed(), duration_s))

    buckets = {le: value(metrics, "job_duration_ms_bucket", job="daily_report", le=le) for le in ("10", "50", "100")}
    assert buckets == {"10": 1, "50": 2, "100": 3}
    assert value(metrics, "job_duration_ms_bucket", job="daily_report", le="3.6e+06") == 3
    assert value(metrics, "job_duration_ms_bucket", job="daily_report", le="+Inf") == 4


@pytest.mark.req("C5")
@pytest.mark.fault(52)
def test_nothing_that_a_job_says_or_is_called_makes_a_new_series() -> None:
    metrics = Metrics(["daily_report"])
    metrics(failed(claimed()))
    metrics(failed(claimed("gone")))
    before = samples(metrics).keys()

    for n in range(50):
        metrics(RunStarted(claimed(f"job-{n}"), 0))
        metrics(failed(claimed(f"job-{n}"), f"Error{n}"))
        metrics(failed(claimed(), f"weird-{n}"))
        metrics(AlertTold(f"TYPE_{n}", f"channel-{n}", True))
        metrics(SlotDecided("daily_report", f"decision-{n}", NOW, 1, 0))

    assert samples(metrics).keys() == before
    assert value(metrics, "job_failures_total", job="(removed)", kind="exception") == 51
    assert value(metrics, "job_failures_total", job="daily_report", kind="other") == 50
    assert value(metrics, "jobsd_alerts_total", type="other", result="told") == 50


@pytest.mark.req("C5")
def test_a_reload_keeps_the_counts_of_jobs_that_stay_and_drops_those_that_went() -> None:
    metrics = Metrics(["stays", "goes"])
    for job in ("stays", "goes"):
        metrics(RunStarted(claimed(job, 1), 0))
        metrics(completed(claimed(job, 1)))
    metrics(RunStarted(claimed("goes", 2), 0))

    metrics.know(["stays", "comes"])
    metrics(completed(claimed("goes", 2)))

    assert value(metrics, "job_runs_total", job="stays", outcome="completed") == 1
    assert value(metrics, "job_runs_total", job="comes", outcome="completed") == 0
    assert not [key for key in samples(metrics) if ("job", "goes") in key[1]]
    assert value(metrics, "job_runs_total", job="(removed)", outcome="completed") == 1
    assert value(metrics, "jobsd_running", job="(removed)") == 0


def test_running_counts_executions_on_this_node_however_they_end() -> None:
    metrics = Metrics(["daily_report"])
    for run in (1, 2, 3, 4):
        metrics(RunStarted(claimed(run=run), 0))

    metrics(completed(claimed(run=1)))
    metrics(RunRefused(claimed(run=2), Settlement(RunState.COMPLETED, "completed", "completed")))
    metrics(completed(claimed(run=99)))  # of another node, settled by this one

    assert value(metrics, "jobsd_running", job="daily_report") == 2

    metrics(LockSession("fenced", "too long without it", 2))

    assert value(metrics, "jobsd_running", job="daily_report") == 0
    assert value(metrics, "jobsd_fenced_total") == 2, "the result that was refused, and the node"
    assert value(metrics, "jobsd_lock_session_up") == 0


@pytest.mark.req("P1")
def test_every_final_decision_on_slots_is_counted_with_the_length_of_its_stretch() -> None:
    metrics = Metrics()

    metrics(SlotDecided("daily_report", "ran", NOW, 1, 0.03))
    metrics(SlotDecided("daily_report", "no_node", NOW, 500, 3600))
    metrics(SlotDecided("daily_report", "waiting", NOW, 1, 0))

    expected: Mapping[str, float] = {"ran": 1, "no_node": 500}
    for decision in Decision:
        count = None if decision is Decision.WAITING else expected.get(decision, 0)
        assert value(metrics, "jobsd_slots_total", decision=decision) == count
    assert value(metrics, "jobsd_slot_lag_seconds_count") == 1


def test_gauges_follow_what_they_are_told() -> None:
    metrics = Metrics(["daily_report"])

    metrics(LockSession("up"))
    metrics(RunsLost("db1", 3, "its beat stood still"))
    metrics(RegistryReloaded(False, error="E0204"))
    metrics.queue({"queued": 7}, 12.5)
    metrics.queue({"running": 2}, 0)
    metrics.loop_lag(0.25)
    metrics.successes({"daily_report": 1_700_000_000.0, "gone": 1.0})

    assert value(metrics, "jobsd_lock_session_up") == 1
    assert value(metrics, "jobsd_lost_total") == 3
    assert value(metrics, "jobsd_config_last_reload_success") == 0
    assert value(metrics, "jobsd_queue_depth", state="queued") is None
    assert value(metrics, "jobsd_queue_depth", state="running") == 2
    assert value(metrics, "jobsd_event_loop_lag_seconds") == 0.25
    assert value(metrics, "jobsd_last_success_timestamp_seconds", job="daily_report") == 1_700_000_000
    assert value(metrics, "jobsd_last_success_timestamp_seconds", job="gone") is None


def test_a_scrape_shows_what_changed_since_the_one_before() -> None:
    metrics = Metrics(["a", "b"])
    metrics(completed(claimed("a")))
    metrics.render()

    metrics(completed(claimed("a")))
    metrics(completed(claimed("b")))

    assert value(metrics, "job_runs_total", job="a", outcome="completed") == 2
    assert value(metrics, "job_duration_ms_count", job="a") == 2
    assert value(metrics, "job_runs_total", job="b", outcome="completed") == 1


@pytest.mark.req("C5", "P8")
def test_a_run_that_its_job_put_off_or_cancelled_counts_as_that_and_as_no_failure() -> None:
    metrics = Metrics(["daily_report"])

    metrics(deferred(claimed(run=1)))
    metrics(cancelled(claimed(run=2)))

    assert value(metrics, "job_runs_total", job="daily_report", outcome="deferred") == 1
    assert value(metrics, "job_runs_total", job="daily_report", outcome="cancelled") == 1
    assert not any(name == "job_failures_total" and amount for (name, _), amount in samples(metrics).items())
