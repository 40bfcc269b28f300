"""Values that came from variables do not reach the database, and the execution has them all the same."""

from pathlib import Path

import pytest

from jobsd.engine.scheduler import Scheduler
from jobsd.operations.enqueue import trigger
from jobsd.operations.run_requests import TriggerRequest
from jobsd.registry.load import load
from jobsd.store.db import Db
from tests.support.engine import STILL, node

CANARY = "canary-5f1c"
EVERYTHING = "SELECT string_agg(r::text, '') FROM jobsd.run r"


@pytest.mark.req("C8", "A7")
@pytest.mark.fault(51)
async def test_a_parameter_from_a_variable_is_not_stored_with_the_run(db: Db, tmp_path: Path) -> None:
    file = tmp_path / "jobsd.toml"
    file.write_text(
        '[jobs.work]\ncommand = ["true"]\nschedule = { every = "1h" }\nparams = { token = "${TOKEN}", region = "eu" }\n'
    )
    registry = load(file, {"TOKEN": CANARY})

    async with node(db, lease=STILL) as here:
        made = Scheduler(here)
        await made.load(registry.jobs)
        await db.execute("UPDATE jobsd.schedule SET decided_to = now() - interval '90 minutes'")
        await made._read_again()
        await made._decide(["work"])
        await trigger(db, registry, "work", TriggerRequest(params={"region": "us"}), "test")

    stored = await db.fetchval(EVERYTHING)
    definitions = await db.fetchval("SELECT string_agg(j::text, '') FROM jobsd.job j")
    assert CANARY not in stored + definitions
    assert '"region"' in stored
    assert registry.jobs["work"].params["token"] == CANARY
