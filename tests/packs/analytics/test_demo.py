"""The demo's input and registry, and the shipped one."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from jobsd.handlers import resolve
from jobsd.packs.analytics.rules import DEFAULT_RULES, RULES
from jobsd.registry.load import load
from tests.packs.analytics.conftest import EXTRACT, ROOT, WHOLE

DEMO = ROOT / "config" / "demo" / "jobsd.toml"


def test_the_extract_is_small_and_names_its_source_and_licence() -> None:
    notice = (EXTRACT / "README.md").read_text()

    assert sum(path.stat().st_size for path in EXTRACT.iterdir()) < 300_000
    assert "CC BY 4.0" in notice
    assert "J. Kuzilek, M. Hlosta and Z. Zdrahal" in notice


@pytest.mark.skipif(not WHOLE.is_dir(), reason="the whole OULAD set is not on this machine")
def test_the_extract_is_what_the_script_takes_from_the_whole_set(tmp_path: Path) -> None:
    script = ROOT / "config" / "demo" / "extract_oulad.py"

    subprocess.run([sys.executable, script, WHOLE, tmp_path / "made"], check=True)

    made = {path.name: gzip.decompress(path.read_bytes()) for path in (tmp_path / "made").iterdir()}
    assert made == {path.name: gzip.decompress(path.read_bytes()) for path in EXTRACT.glob("*.gz")}


@pytest.mark.req("C1", "E12")
def test_the_demo_hurries_the_shipped_jobs_and_imports_the_extract() -> None:
    registry = load(DEMO, {"JOBSD_ENVIRONMENT": "demo"})

    assert set(registry.jobs) == {"import_events", "analytics_jobs", "generate_signals"}
    every = registry.jobs["analytics_jobs"].schedule
    assert every is not None
    assert every.every is not None
    assert every.every.total_seconds() == 10
    assert ROOT / str(registry.jobs["import_events"].params["folder"]) == EXTRACT


@pytest.mark.req("A9", "C1")
def test_every_shipped_job_has_a_handler_that_takes_its_parameters_and_a_runbook() -> None:
    registry = load(DEMO, {})

    for job in registry.jobs.values():
        handler = resolve(job)
        assert handler is not None
        assert handler.model is not None
        handler.model.model_validate(dict(job.params))
        assert handler.call.honours_dry_run  # type: ignore[attr-defined]
        assert job.description
        assert job.runbook.duration
        assert job.runbook.on_failure
        assert job.runbook.owner


def test_the_shipped_rules_are_the_defaults() -> None:
    shipped = load(DEMO, {}).jobs["generate_signals"].params["rules"]

    assert RULES.validate_python(shipped) == DEFAULT_RULES
