"""`jobsd docs`: the runbook page."""

from pathlib import Path

import pytest

from tests.support.command import jobsd

JOBS = """
[jobs.nightly-report]
description = "Yesterday's figures | for the board"
handler = "reports:nightly"
schedule = { cron = "30 2 * * *", timezone = "Europe/Berlin" }
needs = ["import"]
params = { region = "${REGION}" }
retry = { attempts = 2 }
timeout = "20m"
runbook = { duration = "under 5 min", on_failure = "Safe to run again", owner = "data@example.org" }

[jobs.import]
command = ["/opt/import", "--secret-flag"]
enabled = false
"""
HANDLERS = '''
from pydantic import BaseModel, Field

class Params(BaseModel):
    region: str = Field(description="which region")
    days: int = Field(7, description="how far back")
    board: str

def nightly(ctx, params: Params) -> None:
    """The work."""
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobsd.toml").write_text(JOBS)
    (tmp_path / "reports.py").write_text(HANDLERS)
    return tmp_path


def written(folder: Path) -> str:
    ended = jobsd("docs", cwd=folder, PYTHONPATH=str(folder), REGION="geheim")
    assert (ended.code, ended.out) == (0, ""), ended.err
    return (folder / "docs/JOBS.md").read_text()


@pytest.mark.req("A9", "C9")
def test_the_page_tells_of_every_job_what_the_person_on_call_needs(folder: Path) -> None:
    page = written(folder)

    start = page.index("## nightly-report")
    assert page[start:].startswith(
        """## nightly-report

Yesterday's figures | for the board

- **By hand:** `jobsd trigger nightly-report --wait`
- **When:** at 02:30 every day, Europe/Berlin, once import completed
- **Expected duration:** under 5 min; ended after 20 min
- **When it fails:** Safe to run again. It is tried again by itself up to 2 times; the failure is logged and alerted.
- **Owner:** data@example.org

| Parameter | Default | Meaning |
| --- | --- | --- |
| `region` | `"${REGION}"` | which region |
| `days` | `7` | how far back |
| `board` | required |  |
"""
    )
    assert "| [nightly-report](#nightly-report) | Yesterday's figures \\| for the board |" in page
    assert "by hand (switched off)" in page


@pytest.mark.req("A9")
def test_the_page_has_neither_implementation_nor_secrets(folder: Path) -> None:
    page = written(folder)

    assert "reports:nightly" not in page
    assert "/opt/import" not in page
    assert "geheim" not in page


def test_check_is_content_with_the_page_as_written(folder: Path) -> None:
    written(folder)

    ended = jobsd("docs", "--check", cwd=folder, PYTHONPATH=str(folder), REGION="x")

    assert (ended.code, ended.out, ended.err) == (0, "", "")


def test_check_ends_with_1_and_the_difference_when_the_registry_has_moved_on(folder: Path) -> None:
    written(folder)
    (folder / "jobsd.toml").write_text(JOBS.replace("under 5 min", "an hour"))

    ended = jobsd("docs", "--check", cwd=folder, PYTHONPATH=str(folder), REGION="x")

    assert ended.code == 1
    assert ended.err.startswith("error[E0513]: docs/JOBS.md is not what the registry says now")
    assert "+- **Expected duration:** an hour; ended after 20 min" in ended.out.splitlines()
    assert "under 5 min" in (folder / "docs/JOBS.md").read_text()


def test_check_ends_with_1_where_there_is_no_page_yet(folder: Path) -> None:
    ended = jobsd("docs", "--check", "--to", "elsewhere.md", cwd=folder, PYTHONPATH=str(folder), REGION="x")

    assert ended.code == 1
    assert not (folder / "elsewhere.md").exists()


def test_a_registry_that_is_wrong_is_told_with_exit_3(folder: Path) -> None:
    (folder / "jobsd.toml").write_text("[jobs.a]\nwhat = 1\n")

    ended = jobsd("docs", cwd=folder)

    assert ended.code == 3
    assert "error[E0204]" in ended.err


def test_a_page_that_cannot_be_written_is_e0406_with_exit_1(folder: Path) -> None:
    (folder / "docs").write_text("a file where a folder should be")

    ended = jobsd("docs", cwd=folder, PYTHONPATH=str(folder), REGION="x")

    assert ended.code == 1
    assert ended.err.startswith("error[E0406]: cannot write docs/JOBS.md")
