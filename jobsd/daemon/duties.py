"""What this node's housekeeper does, and how often. What each duty is stands in the engine."""

from collections.abc import Callable

from jobsd.engine.housekeeper import Duty
from jobsd.engine.stale import StaleSweep
from jobsd.registry.load import Registry


def duties(sweep: StaleSweep, registry: Callable[[], Registry]) -> tuple[Duty, ...]:
    """All of them. Periods in seconds, as the registry in force says."""

    def stale_sweep_s() -> float:
        return registry().settings.daemon.stale_sweep.total_seconds()

    return (Duty("stale sweep", stale_sweep_s, sweep.sweep),)
