"""Who may do what without a token: read from this machine, change through the Unix socket, and no web page ever."""

import asyncio
import getpass
import os
import pwd
import subprocess
from pathlib import Path

import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.web.peers import is_loopback, user_name
from tests.support.web import Site, site
from tests.support.wire import wire

ME = f"unix:{getpass.getuser()}"
CHANGES = [
    "/api/v1/jobs/nightly/runs",
    "/api/v1/jobs/nightly/enable",
    "/api/v1/jobs/nightly/disable",
    "/api/v1/reload",
]


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.req("A6")
@pytest.mark.fault(44)
async def test_every_change_over_tcp_needs_a_token(served: Site, db: Db, path: str) -> None:
    status, body, headers = await served.ask("POST", path, {}, tcp=True)

    assert (status, body["code"]) == (401, "E0402")
    assert body["detail"] == f"no token: {served.addresses.url[7:]} requires one for a change"
    assert headers["WWW-Authenticate"] == 'Bearer realm="jobsd"'
    assert await db.fetchval("SELECT count(*) FROM jobsd.audit") == 0
    assert served.reloads == []


async def test_a_token_that_somebody_made_up_changes_nothing(served: Site) -> None:
    status, _, _ = await served.ask("POST", CHANGES[0], {}, tcp=True, headers={"Authorization": "Bearer x"})

    assert status == 401


@pytest.mark.req("A6", "B9")
async def test_over_the_unix_socket_the_kernel_tells_who_acts(served: Site) -> None:
    _, run, _ = await served.ask("POST", "/api/v1/jobs/nightly/runs", {})
    await served.ask("POST", "/api/v1/reload", {"reason": "an hour later"})

    assert run["actor"] == ME
    assert served.reloads == [(ME, "an hour later")]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may act as another user")
async def test_another_user_is_another_actor(served: Site) -> None:
    nobody = pwd.getpwnam("nobody")
    socket = Path(str(served.addresses.socket))
    socket.parent.chmod(0o755)
    os.chown(socket, -1, nobody.pw_gid)

    run = await asyncio.to_thread(_as, nobody, socket)

    _, audit, _ = await served.ask("GET", f"/api/v1/runs/{run}/audit")
    assert [(entry["act"], entry["actor"]) for entry in audit["items"]] == [("queued", "unix:nobody")]


def _as(user: pwd.struct_passwd, socket: Path) -> str:
    """Trigger as another user; the id of the run."""
    return subprocess.run(
        ["/usr/bin/python3", "-I", "-c", TRIGGER, str(socket)],
        user=user.pw_uid,
        group=user.pw_gid,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


TRIGGER = """
import http.client, json, socket, sys
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(sys.argv[1])
connection.request("POST", "/api/v1/jobs/nightly/runs", "{}", {"Content-Type": "application/json"})
print(json.load(connection.getresponse())["id"])
"""


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:8620", "127.0.0.1.evil.test", "localhost.evil.test", "[::2]:1"]
)
@pytest.mark.fault(46)
async def test_a_name_that_was_rebound_to_this_machine_is_turned_away(served: Site, host: str) -> None:
    status, body, _ = await served.ask("GET", "/api/v1/runs", tcp=True, headers={"Host": host})

    assert (status, body["code"]) == (421, "E0510")
    assert body["detail"] == f'this listener is not "{host}"'


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1", "127.0.0.2:80", "[::1]", "[::1]:8620"])
async def test_names_of_this_machine_are_served(served: Site, host: str) -> None:
    status, _, _ = await served.ask("GET", "/livez", tcp=True, headers={"Host": host})

    assert status == 200


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("jobs.example.org", 200),
        ("JOBS.example.org:443", 200),
        ("jobs.example.org.evil.test", 421),
        ("example.org", 421),
    ],
)
async def test_names_that_are_configured_are_served_and_no_others(
    db: Db, registry: Registry, host: str, status: int
) -> None:
    async with site(db, registry, hosts=("jobs.example.org",)) as here:
        came, _, _ = await here.ask("GET", "/livez", tcp=True, headers={"Host": host})

    assert came == status


async def test_a_probe_without_a_host_is_served(served: Site) -> None:
    async with wire(served.addresses.url) as old:
        await old.send(b"GET /livez HTTP/1.0\r\n\r\n")
        said = await old.rest()

    assert said.startswith(b"HTTP/1.0 200")


@pytest.mark.parametrize("origin", ["https://evil.test", "http://localhost:8620", "null"])
@pytest.mark.parametrize("tcp", [True, False])
@pytest.mark.fault(46)
async def test_a_change_from_a_web_page_is_refused(served: Site, origin: str, tcp: bool) -> None:
    status, body, _ = await served.ask("POST", CHANGES[0], {}, tcp=tcp, headers={"Origin": origin})

    assert (status, body["code"]) == (403, "E0510")
    assert served.woken == []


@pytest.mark.fault(46, 47)
async def test_no_answer_may_be_read_by_other_sites_or_kept(served: Site) -> None:
    _, _, headers = await served.ask("GET", "/api/v1/jobs", headers={"Origin": "https://evil.test"})

    assert "Access-Control-Allow-Origin" not in headers
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers["Server"] == "jobsd"


def test_a_uid_without_a_name_is_told_by_its_number() -> None:
    assert user_name(4_000_000_001) == "4000000001"
    assert user_name(0) == "root"


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_is_this_machine_alone(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours
