"""`jobsd dev`: from an empty folder to a daemon that runs jobs, and out again without a trace."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobsd.cli.address import Address
from jobsd.cli.client import Client
from jobsd.cli.follow import follow
from jobsd.cli.watch import Lines
from tests.cli.terminal import project, terminal, wait_until_gone

pytestmark = pytest.mark.req("F8")
UP = "Ctrl-C stops"


@pytest.fixture
def folder() -> Iterator[Path]:
    with project() as made:
        yield made


@contextmanager
def client_in(folder: Path) -> Iterator[Client]:
    client = Client(Address(socket=folder / ".jobsd" / "jobsd.sock"))
    try:
        yield client
    finally:
        client.connection.close()


def test_one_command_goes_from_nothing_to_jobs_that_can_be_run(folder: Path) -> None:
    with terminal(folder, "dev", "--port", "0") as dev:
        screen = dev.until(UP)
        with client_in(folder) as client:
            run = client.post("/jobs/sql-demo/runs", {})
            ended = follow(client, run["id"], Lines(print))
        status = dev.ctrl_c()

    assert re.search(r"ok  PostgreSQL \d+\.\d+ \(embedded\) +\.jobsd/pg +\d", screen)
    assert re.search(r"ok  schema +\d+ migrations ", screen)
    assert re.search(r"ok  jobs +4 demo jobs +no jobsd.toml here yet", screen)
    assert re.search(r"ok  listening +127\.0\.0\.1:\d+", screen)
    assert re.search(r"(in \d+ s|now) +flaky-demo +every 30 s +Fails on purpose", screen)
    assert ended["state"] == "completed", ended["error"]
    assert status == 0


def test_a_job_that_fails_on_purpose_completes_at_its_retry(folder: Path) -> None:
    with terminal(folder, "dev", "--port", "0") as dev:
        dev.until(UP)
        with client_in(folder) as client:
            run = follow(client, client.post("/jobs/flaky-demo/runs", {})["id"], Lines(print))

    assert (run["state"], run["attempts"], run["retries"]) == ("completed", 2, 1)


def test_data_stay_until_one_starts_over(folder: Path) -> None:
    with terminal(folder, "dev", "--port", "0") as dev:
        dev.until(UP)
        with client_in(folder) as client:
            run = client.post("/jobs/hello/runs", {"reason": "to be kept"})["id"]
        dev.ctrl_c()
    with terminal(folder, "dev", "--port", "0") as dev:
        again = dev.until(UP)
        with client_in(folder) as client:
            kept = client.get(f"/runs/{run}")["reason"]
        dev.ctrl_c()
    with terminal(folder, "dev", "--port", "0", "--fresh") as dev:
        fresh = dev.until(UP)
        with client_in(folder) as client:
            left = [each["actor"] for each in client.get("/runs", job="hello")["items"]]

    assert re.search(r"ok  schema +up to date", again)
    assert kept == "to be kept"
    assert re.search(r"ok  schema +\d+ migrations ", fresh)
    assert set(left) <= {"schedule"}


def test_killed_it_leaves_no_process_and_starts_again(folder: Path) -> None:
    with terminal(folder, "dev", "--port", "0") as dev:
        dev.until(UP)
        dev.process.kill()
        dev.process.wait()
        wait_until_gone(folder)

    with terminal(folder, "dev", "--port", "0") as dev:
        assert UP in dev.until(UP)


def test_a_second_one_in_the_same_folder_is_refused_and_deletes_nothing(folder: Path) -> None:
    with terminal(folder, "dev", "--port", "0") as dev:
        dev.until(UP)
        with terminal(folder, "dev", "--port", "0", "--fresh") as second:
            status = second.ended()

        with client_in(folder) as client:
            assert client.get("/jobs")["items"]

    assert status != 0
    assert "error[E0405]: another jobsd uses the database in" in second.errors


def test_a_configuration_that_is_there_is_taken(folder: Path) -> None:
    (folder / "jobsd.toml").write_text('[jobs.mine]\ncommand = ["true"]\nschedule = { cron = "30 2 * * *" }\n')

    with terminal(folder, "dev", "--port", "0") as dev:
        screen = dev.until(UP)

    assert re.search(r"ok  jobs +1 jobs? +jobsd.toml", screen)
    assert "jobsd trigger mine --wait" in screen


def test_a_configuration_that_is_written_meanwhile_takes_the_demos_place_at_a_reload(folder: Path) -> None:
    with terminal(folder, "dev", "--port", "0") as dev:
        dev.until(UP)
        (folder / "jobsd.toml").write_text('[jobs.mine]\ncommand = ["true"]\n')
        with client_in(folder) as client:
            changed = client.post("/reload", {})
            run = follow(client, client.post("/jobs/mine/runs", {})["id"], Lines(print))

    assert changed["added"] == ["mine"]
    assert "slow-demo" in changed["removed"]
    assert run["state"] == "completed"


def test_it_listens_on_loopback_only(folder: Path) -> None:
    (folder / "jobsd.toml").write_text('[http]\nhost = "0.0.0.0"\n\n[jobs.mine]\ncommand = ["true"]\n')

    with terminal(folder, "dev") as dev:
        status = dev.ended()

    assert status == 3
    assert dev.errors.startswith("error[E0603]: development mode listens on loopback only, not on 0.0.0.0")
    assert not (folder / ".jobsd").exists()
