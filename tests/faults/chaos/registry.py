"""The jobs of the load: of every kind, with keys of their own, shared, and by parameter, restartable or not."""

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

WITNESS = Path(__file__).with_name("witness.py")
HANDLERS = "tests.faults.chaos.jobs"
KEYS = 4  # values of a key that is a parameter

# What a SQL job and ctx.transaction() write. Nothing in it forbids a second row: the checker counts.
SETUP = """
    CREATE SCHEMA chaos;
    CREATE TABLE chaos.effect (run bigint NOT NULL, fence bigint NOT NULL);
"""
SQL = """
INSERT INTO chaos.effect VALUES (current_setting('jobsd.run_id')::bigint, current_setting('jobsd.fence')::bigint);
SELECT pg_sleep(0.2);
"""


@dataclass(frozen=True, slots=True)
class Job:
    """`does`: loop, process, command, sql, exact, exact apart, flaky, external. `lock`: its key's template."""

    name: str
    does: str
    lock: str  # "{run_id}": its runs may overlap
    every_s: int | None = None
    missed: str = "once"
    restartable: bool = False
    retries: int = 0
    concurrency: int | None = None

    @property
    def witnessed(self) -> bool:
        """Whether its executions write to the log; what a SQL job does is in the database alone."""
        return self.does != "sql"

    @property
    def exactly_once(self) -> bool:
        return self.does in ("sql", "exact", "exact apart")

    def key_of(self, params: Mapping[str, object], run: int) -> str:
        return self.lock.format(run_id=run, key=params.get("key"))


JOBS = {
    job.name: job
    for job in (
        Job("tick_loop", "loop", "tick_loop", every_s=1),
        Job("tick_command", "command", "tick_command", every_s=2, restartable=True),
        Job("tick_all", "loop", "tick_all", every_s=1, missed="all", restartable=True),
        Job("shared_loop", "loop", "shared", restartable=True),
        Job("shared_command", "command", "shared", restartable=True),
        Job("shared_process", "process", "shared"),
        Job("keyed", "command", "key:{key}", restartable=True, retries=1),
        Job("keyed_loop", "loop", "key:{key}", restartable=True),
        Job("keyed_process", "process", "key:{key}", restartable=True),
        Job("once", "loop", "{run_id}"),
        Job("once_command", "command", "solo:{key}"),
        Job("flaky", "flaky", "flaky:{key}", retries=2),
        Job("limited", "command", "{run_id}", restartable=True, concurrency=2),
        Job("exact", "exact", "{run_id}", restartable=True),
        Job("exact_apart", "exact apart", "exact:{key}", restartable=True),
        Job("statement", "sql", "sql:{key}", restartable=True),
        Job("outside", "external", "outside:{key}"),
        Job("passing", "loop", "passing"),  # comes and goes with reloads
    )
}
WORK = {
    "loop": f'handler = "{HANDLERS}:steps"',
    "process": f'handler = "{HANDLERS}:steps_apart"',
    "flaky": f'handler = "{HANDLERS}:fails_at_first"\nisolation = "process"',
    "exact": f'handler = "{HANDLERS}:writes_once"',
    "exact apart": f'handler = "{HANDLERS}:writes_once_apart"',
    "sql": f'sql = """{SQL}"""',
    "external": 'external = true\nstale_after = "6s"',
}


def toml(log: Path, leave_out: str = "", *, scheduled: bool = True) -> str:
    """The registry; the runs' side effects go to `log`. Not `scheduled`: all of them are started by hand."""
    jobs = [job if scheduled else replace(job, every_s=None) for job in JOBS.values() if job.name != leave_out]
    return "\n".join(_table(job, log) for job in jobs)


def _table(job: Job, log: Path) -> str:
    command = f"command = {json.dumps([sys.executable, '-I', '-S', str(WITNESS), str(log)])}"
    lines = [f"[jobs.{job.name}]", WORK.get(job.does, command), f'lock_key = "{job.lock}"']
    lines.append(f"params = {{ steps = 3, key = 0, file = {json.dumps(str(log))} }}")
    lines += ['timeout = "25s"', 'grace = "300ms"', f"restartable = {json.dumps(job.restartable)}"]
    if job.does == "external":
        lines.remove(f"restartable = {json.dumps(job.restartable)}")
    if job.every_s:
        lines.append(f'schedule = {{ every = "{job.every_s}s", missed = "{job.missed}" }}')
    if job.retries:
        lines.append(f'retry = {{ attempts = {job.retries}, base = "100ms", cap = "500ms" }}')
    if job.concurrency:
        lines.append(f"concurrency = {job.concurrency}")
    return "\n".join(lines) + "\n"
