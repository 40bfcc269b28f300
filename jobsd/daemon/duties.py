"""What this node's housekeeper does, and how often. What each duty is stands in the engine."""

from collections.abc import Callable

from jobsd.engine import retention, sealer
from jobsd.engine.here import Here
from jobsd.engine.housekeeper import Duty
from jobsd.engine.retention import Retention
from jobsd.engine.sealer import Sealer
from jobsd.engine.stale import StaleSweep
from jobsd.registry.load import Registry


def duties(here: Here, sweep: StaleSweep, seals: Sealer, registry: Callable[[], Registry]) -> tuple[Duty, ...]:
    """All of them. Periods in seconds, as the registry in force says."""

    def stale_sweep_s() -> float:
        return registry().settings.daemon.stale_sweep.total_seconds()

    return (
        Duty("stale sweep", stale_sweep_s, sweep.sweep),
        Duty("audit seal", lambda: sealer.EVERY_S, seals.round),
        Duty("retention", lambda: retention.EVERY_S, Retention(here).clear),
    )
