"""The environment of a job's process: little of the daemon's, the job's own variables, and which execution it is."""

import os
from collections.abc import Mapping
from datetime import UTC

import orjson

from jobsd.domain.lock_key import lock_key_of
from jobsd.engine.executors.execution import Execution

PASSED_ON = frozenset({"PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR"})  # and LC_*
LONGEST = 128 * 1024 - 1  # bytes of one NAME=value that Linux takes


def environment(execution: Execution) -> dict[str, str]:
    """All of it: nothing else of the daemon's environment reaches a job, so no secret does."""
    own = {name: value for name, value in os.environ.items() if name in PASSED_ON or name.startswith("LC_")}
    return {**own, **execution.definition.env, **identity(execution)}


def identity(execution: Execution) -> Mapping[str, str]:
    """Which execution it is; the fence is to be checked by what the job writes to (P4)."""
    run = execution.run
    return {
        "JOBSD_JOB": run.job,
        "JOBSD_RUN_ID": str(run.id),
        "JOBSD_ATTEMPT": str(run.attempt),
        "JOBSD_FENCE": str(run.fence),
        "JOBSD_LOCK_KEY": lock_key_of(execution.definition.key_template, execution.params) or str(run.id),
        "JOBSD_SLOT_AT": run.slot_at.astimezone(UTC).isoformat() if run.slot_at else "",
        "JOBSD_PARAMS": orjson.dumps(dict(execution.params)).decode(),
        "JOBSD_DRY_RUN": "1" if execution.is_dry else "0",
        "JOBSD_IDEMPOTENCY_KEY": execution.idempotency_key,
    }


def too_long(env: Mapping[str, str]) -> str | None:
    """What to say of a variable that no process can be given, or None."""
    for name, value in env.items():
        if (size := len(os.fsencode(f"{name}={value}"))) > LONGEST:
            return f"the variable {name} would have {size} bytes; Linux takes {LONGEST}"
    return None
