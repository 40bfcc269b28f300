"""`make demo`: real learning events through import, aggregation and signals, on the schedule of a real daemon."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobsd.cli import shipped
from tests.cli.terminal import project, terminal

pytestmark = pytest.mark.req("A1", "A2", "F8")
EVENTS = "16,006"  # in the extract of config/demo/oulad


@pytest.fixture
def folder() -> Iterator[Path]:
    with project() as made:
        yield made


def test_once_it_ends_when_every_due_job_has_completed(folder: Path) -> None:
    with terminal(folder, "demo", "--once") as demo:
        status = demo.ended()

    assert status == 0, demo.errors
    assert re.search(rf"ok  import_events .*{EVENTS} new", demo.screen)
    counted = re.search(r"ok  analytics_jobs .* 1,037 days, .* 16,006 events, 3 courses, (\d+) signals", demo.screen)
    derived = re.search(r"ok  generate_signals .* 3 courses, (\d+) signals", demo.screen)
    assert counted and derived
    assert int(counted[1]) == int(derived[1]) > 0  # how many depends on the day: the demo's dates end today


def test_without_once_it_keeps_running_and_tells_where_to_look(folder: Path) -> None:
    with terminal(folder, "demo", "--port", "0") as demo:
        screen = demo.until("Ctrl-C stops")
        running = demo.process.poll() is None
        status = demo.ctrl_c()

    assert running
    assert "jobsd --socket .jobsd/demo/jobsd.sock job list" in screen
    assert status == 0


def test_a_job_that_fails_is_its_exit_status_and_told(folder: Path) -> None:
    data = folder / "data"
    data.mkdir()
    for file in shipped.config("demo/oulad").glob("*.gz"):
        (data / file.name).write_bytes(file.read_bytes() if file.name != "courses.csv.gz" else b"not gzip")

    with terminal(folder, "demo", "--once", "--data", "data") as demo:
        status = demo.ended()

    assert status == 9
    assert "error[E0505]: run 1 of import_events failed" in demo.errors
    assert "courses.csv.gz" in demo.errors
