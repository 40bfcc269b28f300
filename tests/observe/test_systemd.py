"""sd_notify, against real sockets of the two kinds that systemd uses."""

import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from jobsd.observe.systemd import Systemd


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "notify") if request.param == "path" else f"@jobsd-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(name.replace("@", "\0", 1))
        bound.settimeout(10)
        yield bound, name


def heard(bound: socket.socket) -> dict[str, str]:
    return dict(line.split("=", 1) for line in bound.recv(65536).decode().split("\n"))


def test_states_are_told_in_the_words_of_sd_notify(listener: tuple[socket.socket, str]) -> None:
    bound, name = listener
    systemd = Systemd({"NOTIFY_SOCKET": name})

    assert systemd.ready("4 jobs")
    assert heard(bound) == {"READY": "1", "STATUS": "4 jobs", "MAINPID": str(os.getpid())}
    assert systemd.status("running daily_report")
    assert heard(bound) == {"STATUS": "running daily_report"}
    assert systemd.stopping("draining 2 runs")
    assert heard(bound) == {"STOPPING": "1", "STATUS": "draining 2 runs"}
    assert systemd.extend_timeout(timedelta(seconds=30))
    assert heard(bound) == {"EXTEND_TIMEOUT_USEC": "30000000"}
    assert systemd.watchdog()
    assert heard(bound) == {"WATCHDOG": "1"}


def test_a_reload_carries_the_monotonic_instant_that_notify_reload_asks_for(
    listener: tuple[socket.socket, str],
) -> None:
    bound, name = listener
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    Systemd({"NOTIFY_SOCKET": name}).reloading()

    fields = heard(bound)
    assert fields["RELOADING"] == "1"
    assert before <= int(fields["MONOTONIC_USEC"]) <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def test_a_status_cannot_smuggle_in_another_field(listener: tuple[socket.socket, str]) -> None:
    bound, name = listener

    Systemd({"NOTIFY_SOCKET": name}).status("running x\nMAINPID=1\nREADY=1")

    assert heard(bound) == {"STATUS": "running x MAINPID=1 READY=1"}


@pytest.mark.parametrize("address", [None, "", "/nowhere/at/all", "vsock:2:1234"])
def test_where_nobody_listens_nothing_happens(address: str | None) -> None:
    systemd = Systemd({} if address is None else {"NOTIFY_SOCKET": address})

    assert systemd.ready("ready") is False


@pytest.mark.req("P12")
@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_the_one_that_systemd_set_for_this_process(
    environ: dict[str, str], seconds: float | None
) -> None:
    systemd = Systemd(environ)

    assert systemd.watchdog_s == seconds
    assert systemd.ping_every_s == (seconds / 2 if seconds else None)
