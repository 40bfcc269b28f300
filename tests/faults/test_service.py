"""The service as it is shipped, under a real systemd: it starts, reloads, is watched, is killed, comes back, drains."""

import asyncio
import json
from collections.abc import Callable, Iterator

import pytest

from tests.support.machine import ROOT, Machine, can_boot, installed, machine
from tests.support.postgres import OwnServer

pytestmark = pytest.mark.skipif(bool(can_boot()), reason=can_boot() or "it can be booted")

URL = "postgresql://postgres@/jobsd?host=/run/database&port=5432"
# A tree as bad as one can be, in a first attempt; it lasts until somebody says so.
SCRIPT = """
trap '' TERM
[ "$JOBSD_ATTEMPT" = 1 ] || exit 0
( setsid sh -c 'trap "" TERM; echo $$ >> $STATE_DIRECTORY/pids; exec sleep 1000' & ) &
echo $$ >> $STATE_DIRECTORY/pids
sleep 1000
"""
JOBS = f"""
[log]
format = "json"

[jobs.tree]
command = ["sh", "-c", '''{SCRIPT}''']
env = {{ STATE_DIRECTORY = "/var/lib/jobsd" }}
restartable = true

[jobs.lasts]
command = ["sh", "-c", "touch /var/lib/jobsd/begun; until [ -e /var/lib/jobsd/go ]; do sleep 0.1; done; sleep 3"]

[jobs.needs_more]
command = ["sh", "-c", '[ "$(nice -n 5 nice)" = 5 ]']
"""


@pytest.fixture(scope="module")
def box(module_server: Callable[..., OwnServer]) -> Iterator[Machine]:
    """A machine with jobsd installed and not started."""
    server = module_server(unix_socket_permissions="0777")
    asyncio.run(server.database())
    server.server.socket_dir.chmod(0o711)
    files = installed(JOBS, {"/etc/jobsd/environment": f"DATABASE_URL={URL}\n"})
    with machine(files, server.server.socket_dir) as made:
        made.run("ldconfig")
        made.run("systemd-sysusers")
        made.run("systemd-tmpfiles", "--create")
        yield made


@pytest.fixture
def service(box: Machine) -> Iterator[Machine]:
    """The service, up; stopped again and as it was shipped after the test."""
    box.run("systemctl", "reset-failed")
    box.run("systemctl", "start", "jobsd")
    yield box
    box.run("systemctl", "kill", "--signal=KILL", "jobsd", check=False)
    box.run("systemctl", "stop", "jobsd")
    box.write("/etc/jobsd/jobsd.toml", JOBS)
    box.run("sh", "-c", "rm -rf /etc/systemd/system/jobsd.service.d /var/lib/jobsd/*; systemctl daemon-reload")


def drop_in(box: Machine, text: str) -> None:
    box.write("/etc/systemd/system/jobsd.service.d/test.conf", text)
    box.run("systemctl", "daemon-reload")
    box.run("systemctl", "restart", "jobsd")


def tree(box: Machine) -> tuple[int, list[str]]:
    """A run whose command has made its tree: its id, and the pids."""
    run = box.jobsd("trigger", "tree")["id"]
    box.until(lambda: len(_pids(box)) == 2, "both processes of the tree")
    return run, _pids(box)


def _pids(box: Machine) -> list[str]:
    return box.run("sh", "-c", "cat /var/lib/jobsd/pids 2>/dev/null || true").split()


def living(box: Machine, pids: list[str]) -> str:
    return box.run("sh", "-c", f"for pid in {' '.join(pids)}; do [ -e /proc/$pid ] && echo $pid; done; true")


def settled(box: Machine, run: int) -> list[str]:
    """Wait for the run's end; the outcomes of its attempts."""
    box.until(lambda: box.jobsd("run", "show", str(run))["state"] == "completed", "the run's second attempt")
    return [each["outcome"] for each in box.jobsd("run", "show", str(run))["attempt_list"]]


def restarted(box: Machine) -> None:
    box.until(lambda: box.shown("NRestarts", "ActiveState") == ["1", "active"], "its restart")


@pytest.mark.req("P12", "C8")
def test_it_is_started_when_it_is_ready_and_reloads_with_an_answer(service: Machine) -> None:
    state, kind, status = service.shown("ActiveState", "Type", "StatusText")
    ready = [line for line in service.journal().splitlines() if '"ready"' in line]
    service.write("/etc/jobsd/jobsd.toml", JOBS + '\n[jobs.added]\ncommand = ["true"]\n')
    service.run("systemctl", "reload", "jobsd")
    added = {job["name"] for job in service.jobsd("job", "list")}
    service.write("/etc/jobsd/jobsd.toml", "[jobs.broken]\n")
    refused = service.run("systemctl", "reload", "jobsd", check=False)
    service.write("/etc/jobsd/jobsd.toml", JOBS)
    service.run("systemctl", "kill", "--signal=HUP", "--kill-whom=main", "jobsd")
    service.until(lambda: "added" not in {job["name"] for job in service.jobsd("job", "list")}, "the reload by signal")

    assert (state, kind) == ("active", "notify")
    assert "3 jobs" in status and len(ready) == 1
    assert added == {"tree", "lasts", "needs_more", "added"}
    assert "failed" in refused
    assert service.shown("ActiveState", "NRestarts") == ["active", "0"], "the old registry stays"


@pytest.mark.fault(1, 26)
@pytest.mark.req("P7", "P12")
def test_killed_it_takes_every_process_with_it_comes_back_and_settles_its_run(service: Machine) -> None:
    run, pids = tree(service)

    service.run("systemctl", "kill", "--signal=KILL", "--kill-whom=main", "jobsd")
    restarted(service)

    assert living(service, pids) == ""
    assert settled(service, run) == ["lost", "completed"]


@pytest.mark.fault(2, 25)
@pytest.mark.req("P12")
def test_hung_it_is_killed_by_the_watchdog_and_comes_back(service: Machine) -> None:
    drop_in(service, "[Service]\nWatchdogSec=2\n")
    run, pids = tree(service)

    service.run("systemctl", "kill", "--signal=STOP", "--kill-whom=main", "jobsd")
    restarted(service)

    assert "Watchdog timeout" in service.journal()
    assert living(service, pids) == ""
    assert settled(service, run) == ["lost", "completed"]


@pytest.mark.req("P12", "C5")
def test_stopped_it_lets_its_runs_finish_longer_than_systemd_would_wait_by_itself(service: Machine) -> None:
    drop_in(service, "[Service]\nTimeoutStopSec=2\n")
    service.jobsd("trigger", "lasts")
    service.until(lambda: service.run("ls", "/var/lib/jobsd").count("begun") == 1, "the run's begin")

    service.run("systemctl", "stop", "--no-block", "jobsd")
    service.until(lambda: service.shown("ActiveState") == ["deactivating"], "the drain")
    service.run("touch", "/var/lib/jobsd/go")
    service.until(lambda: service.shown("ActiveState") == ["inactive"], "its end")

    events = [json.loads(line)["event"] for line in service.journal().splitlines() if line.startswith("{")]
    assert events[-1] == "stopped" and "run_completed" in events
    assert service.shown("Result", "ExecMainStatus") == ["success", "0"]


@pytest.mark.req("A7", "C8")
def test_the_database_may_be_a_credential_and_the_profile_for_commands_lets_them_do_more(service: Machine) -> None:
    narrow = service.jobsd("trigger", "needs_more")["id"]
    service.until(lambda: service.jobsd("run", "show", str(narrow))["state"] == "failed", "the refusal")
    service.run("sh", "-c", "mkdir -p /etc/systemd/system/jobsd.service.d")
    profile = (ROOT / "systemd/jobsd.service.d/commands.conf").read_text()
    service.write("/etc/systemd/system/jobsd.service.d/commands.conf", profile)
    service.write("/etc/jobsd/database_url", URL)
    service.write("/etc/jobsd/jobsd.toml", '[database]\nurl = { credential = "database_url" }\n' + JOBS)
    drop_in(service, "[Service]\nEnvironmentFile=\nLoadCredential=database_url:/etc/jobsd/database_url\n")
    wide = service.jobsd("trigger", "needs_more")["id"]
    service.until(lambda: service.jobsd("run", "show", str(wide))["state"] == "completed", "what the profile allows")

    (pid,) = service.shown("MainPID")
    assert "DATABASE_URL" not in service.run("cat", f"/proc/{pid}/environ")
