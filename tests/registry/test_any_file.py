"""Whatever a file says, its load answers with a registry or with placed mistakes, and with nothing else."""

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from jobsd.domain.errors import JobsdError
from jobsd.registry import schema
from jobsd.registry.load import load
from tests.registry.test_positions import quoted, written

WORDS = sorted({part for key in schema.every_key() for part in key.path.replace("[]", "").split(".")} | {"a", "b"})
SCALARS = st.sampled_from(
    ["5m", "", "a", "b", "* * * * *", "${X}", "${", "file:x", "handler:x", "once", "{a}", "SIGUSR2", 5, -1, 2.5, True]
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=6,
)
JOB = st.dictionaries(st.sampled_from(schema.allowed(("jobs", "a"))), VALUES, max_size=5)
JOBS = st.dictionaries(st.sampled_from(["a", "b", "c c"]), JOB | SCALARS, max_size=3)
TABLES = st.dictionaries(st.sampled_from([*schema.allowed(()), "x"]), VALUES, max_size=4)


@settings(max_examples=300, deadline=None)
@given(TABLES, JOBS | SCALARS, TABLES, JOBS, st.sampled_from(["", "test", "other"]))
def test_a_load_ends_in_a_registry_or_in_mistakes(
    top: dict[str, Any], jobs: Any, over: dict[str, Any], over_jobs: dict[str, Any], environment: str
) -> None:
    document = {**top, "jobs": jobs, "environments": {"test": {**over, "jobs": over_jobs}}}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "jobsd.toml")
        file.write_text(
            "\n".join(f"{quoted(key)} = {written(value)}" for key, value in document.items()).replace(",\n", ",")
        )

        try:
            registry = load(file, {"JOBSD_ENVIRONMENT": environment})
        except JobsdError as refused:
            assert refused.problems
            assert str(refused)
        else:
            assert all(job.public()["name"] == name for name, job in registry.jobs.items())
