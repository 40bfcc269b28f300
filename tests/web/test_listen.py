"""The listeners: whose port it is, which mode the socket's file has, and what becomes of a dead daemon's socket."""

import asyncio
import errno
import getpass
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web

from jobsd.domain.errors import JobsdError
from jobsd.web.listen import listening
from jobsd.web.patience import PATIENCE, USUAL
from jobsd.web.peers import peer_of
from jobsd.web.port import tcp_socket
from jobsd.web.unix import unix_socket
from tests.support.wire import wire

LISTEN = """
import socket, sys
sock = socket.socket({family})
sock.bind({address!r})
sock.listen()
print(sock.getsockname()[1] if {family} == socket.AF_INET else "there", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="jobsd-l-") as made:
        yield Path(made)


def app() -> web.Application:
    made = web.Application()
    made[PATIENCE] = USUAL
    return made


def listener(family: str, address: object) -> tuple[subprocess.Popen[str], str]:
    """Another process that listens, and the first line that it says."""
    code = LISTEN.format(family=family, address=address)
    process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True)
    if process.stdout is None:
        raise AssertionError("stdout is a pipe")
    return process, process.stdout.readline().strip()


@pytest.mark.req("C8")
def test_a_port_in_use_is_told_with_process_command_and_user() -> None:
    process, port = listener("socket.AF_INET", ("127.0.0.1", 0))

    with process, pytest.raises(JobsdError) as refusal:
        try:
            tcp_socket("127.0.0.1", int(port))
        finally:
            process.kill()

    text = refusal.value.problems[0].message
    assert refusal.value.problems[0].code == "E0401"
    assert text.startswith(f"port {port} is in use by pid {process.pid} (python")
    assert text.endswith(f", user {getpass.getuser()})")


@pytest.mark.parametrize(("host", "said"), [("192.0.2.1", "cannot be opened"), ("db1.invalid", "no address of this")])
@pytest.mark.req("C8")
def test_an_address_that_this_machine_does_not_have_is_told(host: str, said: str) -> None:
    with pytest.raises(JobsdError, match=said) as refusal:
        tcp_socket(host, 0)

    assert refusal.value.problems[0].code == "E0404"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_in_each_of_its_names_is_opened(host: str) -> None:
    try:
        sock = tcp_socket(host, 0)
    except JobsdError as error:
        if host != "::1" or not isinstance(error.__cause__, OSError) or error.__cause__.errno != errno.EADDRNOTAVAIL:
            raise
        pytest.skip("this machine has no IPv6")
    with closing(sock):
        assert sock.getsockname()[0] in ("127.0.0.1", "::1")


@pytest.mark.req("C8")
@pytest.mark.fault(53)
def test_the_sockets_file_is_for_user_and_group_alone_whatever_the_umask(folder: Path) -> None:
    for umask in (0o000, 0o077):
        before = os.umask(umask)
        try:
            with unix_socket(folder / "s"):
                mode = stat.S_IMODE((folder / "s").stat().st_mode)
        finally:
            os.umask(before)

        assert mode == 0o660


@pytest.mark.fault(53)
def test_nobody_connects_before_the_mode_is_right(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Right after the file appears, and until it has its mode, the kernel refuses every connection."""
    path, refused, chmod = folder / "s", [], Path.chmod

    def looked_at(self: Path, mode: int, **_: bool) -> None:
        with closing(socket.socket(socket.AF_UNIX)) as early:
            refused.append(early.connect_ex(str(path)))
        chmod(self, mode)

    monkeypatch.setattr(Path, "chmod", looked_at)

    with unix_socket(path), closing(socket.socket(socket.AF_UNIX)) as client:
        connected = client.connect_ex(str(path))

    assert refused == [errno.ECONNREFUSED]
    assert connected == 0


@pytest.mark.req("C8")
def test_the_socket_of_a_killed_daemon_is_replaced(folder: Path) -> None:
    path = folder / "s"
    process, _ = listener("socket.AF_UNIX", str(path))
    with process:
        process.send_signal(signal.SIGKILL)

    with unix_socket(path), closing(socket.socket(socket.AF_UNIX)) as client:
        client.connect(str(path))
        listens, _ = peer_of(client)

    assert listens == os.getpid()
    assert not path.exists()


@pytest.mark.req("C8")
def test_the_socket_of_a_live_process_is_left_alone_and_its_pid_told(folder: Path) -> None:
    path = folder / "s"
    process, _ = listener("socket.AF_UNIX", str(path))

    with process, pytest.raises(JobsdError) as refusal:
        try:
            with unix_socket(path):
                pass
        finally:
            process.kill()

    assert refusal.value.problems[0].code == "E0405"
    assert refusal.value.problems[0].message == f"pid {process.pid} listens on {path} already"
    assert path.exists()


def test_of_many_that_want_one_socket_at_once_one_gets_it(folder: Path) -> None:
    path, start, done = folder / "s", threading.Barrier(8), threading.Barrier(8)
    won: list[int] = []
    lost: list[str] = []

    def contend(number: int) -> None:
        start.wait()
        try:
            with unix_socket(path):
                won.append(number)
                done.wait()
        except JobsdError as error:
            lost.append(error.problems[0].code)
            done.wait()

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(won) == 1
    assert lost == ["E0405"] * 7


def test_a_file_in_the_sockets_place_is_not_removed(folder: Path) -> None:
    path = folder / "s"
    path.write_text("precious")

    with pytest.raises(JobsdError) as refusal, unix_socket(path):
        pass

    assert refusal.value.problems[0].code == "E0404"
    assert path.read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_told_as_such(folder: Path) -> None:
    with pytest.raises(JobsdError) as refusal, unix_socket(folder / ("x" * 120)):
        pass

    assert refusal.value.problems[0].code == "E0404"
    assert "path too long" in refusal.value.problems[0].message


@pytest.mark.req("E13")
async def test_closing_lets_a_request_under_way_finish_and_takes_no_new_one(folder: Path) -> None:
    under_way, go_on, made = asyncio.Event(), asyncio.Event(), app()

    async def slow(_: web.Request) -> web.Response:
        under_way.set()
        await go_on.wait()
        return web.Response(text="done")

    made.router.add_get("/slow", slow)
    closed = asyncio.Event()

    async def serve(started: "asyncio.Future[str]") -> None:
        async with listening(made, "127.0.0.1", 0, folder / "s") as addresses:
            started.set_result(addresses.url)
            await closed.wait()

    started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    serving = asyncio.create_task(serve(started))
    url = await started
    async with wire(url) as client:
        await client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        await under_way.wait()
        closed.set()
        while (folder / "s").exists():
            await asyncio.sleep(0.01)
        with pytest.raises(ConnectionRefusedError):
            async with wire(url):
                pass
        go_on.set()
        said = await client.rest()
    await serving

    assert said.startswith(b"HTTP/1.1 200")
    assert said.endswith(b"done")


async def test_when_the_socket_cannot_be_had_the_port_is_given_back(folder: Path) -> None:
    (folder / "s").write_text("precious")
    with closing(tcp_socket("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]

    for _ in range(2):
        with pytest.raises(JobsdError, match="is not a socket"):
            async with listening(app(), "127.0.0.1", port, folder / "s"):
                pass
