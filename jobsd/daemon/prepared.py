"""From a claimed run to what an executor gets: the job's definition, its handler, its reports, its connections."""

from collections.abc import Callable

from jobsd import handlers
from jobsd.domain.job import JobDefinition
from jobsd.domain.lifecycle import SettlePolicy
from jobsd.domain.outcome import Committed
from jobsd.domain.run import CANARY, ClaimedRun
from jobsd.engine.canary import Canary
from jobsd.engine.executors.base import Execution
from jobsd.engine.executors.effects import Effects
from jobsd.engine.executors.guardians import Guardians
from jobsd.engine.here import Here
from jobsd.engine.reporter import Reporter
from jobsd.handlers import Handler
from jobsd.registry.load import Registry
from jobsd.store.db import dedicated


class Prepared:
    """Answers the workers' questions out of the registry that is in force."""

    def __init__(
        self, here: Here, guardians: Guardians, url: str, registry: Callable[[], Registry], canary: Canary
    ) -> None:
        self._here = here
        self._guardians = guardians
        self._url = url
        self._registry = registry
        self._canary = canary

    def policy(self, name: str) -> SettlePolicy:
        """What a job declared for when an attempt is over; of one that is gone, that nothing is repeated."""
        job = self._registry().jobs.get(name)
        return SettlePolicy(job.retry_policy, job.restartable) if job else SettlePolicy()

    def execution(self, run: ClaimedRun) -> tuple[Execution, Reporter]:
        """Raises `KeyError` for a job that has left the registry."""
        registry = self._registry()
        definition, handler = self._canary.taken() if run.job == CANARY else self._what(registry.jobs[run.job])
        reporter = Reporter(self._here, run)
        name = f"jobsd job {run.job}"
        execution = Execution(
            run=run,
            definition=definition,
            handler=handler,
            params={**definition.params, **run.params},
            report=reporter,
            connect=lambda: dedicated(self._url, application_name=name, fence=run.fence, run_id=run.id),
            guardians=self._guardians,
            database_url=self._url,
            schema=self._here.db.schema,
            dry_run=registry.settings.daemon.dry_run,
        )
        if run.job == CANARY:  # whatever comes of it: it has no row of its own to settle, and no dry run
            execution.effects = Effects(end=Committed(run.started_at, None))
            execution.dry_run = False
        return execution, reporter

    def _what(self, job: JobDefinition) -> tuple[JobDefinition, Handler | None]:
        return job, handlers.resolve(job)
