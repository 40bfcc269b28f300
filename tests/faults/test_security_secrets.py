"""Secrets of every kind go in by every door, and come out by none: a real daemon, everything that it says searched."""

import resource
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from signal import SIGHUP, SIGUSR1

import aiohttp
import asyncpg
import psutil
import pytest
from yarl import URL

from jobsd.web.app import ROUTES
from tests.support.daemon import Daemon
from tests.support.tokens import bearer

Start = Callable[..., Awaitable[Daemon]]
KINDS = ("database", "variable", "file", "credential", "channel", "header", "child", "parameter", "unrelated")
ALLOWED = {"PATH", "HOME", "LANG", "TZ", "USER", "LOGNAME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"}  # the last: sh's
CANARY = {kind: f"canary-{kind}-8f3k29d" for kind in KINDS}
JOBS = """
[jobs.sends]
http.url = "http://127.0.0.1:9/?key=${SENT_KEY}"
http.headers.Authorization = { credential = "api" }
[jobs.fails]
command = ["sh", "-c", '''echo "$HELD $(env)"; echo "${VARIABLE_TOKEN}"; exit 3''']
env = { HELD = { file = "held" }, CHILD_SECRET = "${CHILD_SECRET}" }
params = { token = "${PARAMETER_TOKEN}" }
[jobs.raises]
handler = "tests.faults.security_handlers:tells_what_it_knows"
[jobs.inherits]
command = ["sh", "-c", "env | sed 's/^/env /' > traces; ulimit -c | sed 's/^/core /' > traces"]
"""


def _environ(folder: Path) -> dict[str, str]:
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / "api").write_text(f"Bearer {CANARY['credential']}\n")
    return {
        "CREDENTIALS_DIRECTORY": str(credentials),
        "VARIABLE_TOKEN": CANARY["variable"],
        "SENT_KEY": CANARY["header"],
        "CHILD_SECRET": CANARY["child"],
        "PARAMETER_TOKEN": CANARY["parameter"],
        "CHANNEL_PASSWORD": CANARY["channel"],
        "UNRELATED_PASSWORD": CANARY["unrelated"],
    }


async def _everything_happens(node: Daemon) -> None:
    """Starts, failures of each kind, an alert that is not delivered, a refused reload, a good one, a dump."""
    for job in ("sends", "fails", "raises"):
        await node.seen("run_failed", run=await node.trigger(job))
    await node.seen("alert_not_told", channel="team")
    good = node.config.read_text()
    node.config.write_text(good + '\n[jobs.bad]\ncommand = ["true"]\ntimeout = "${VARIABLE_TOKEN}"\n')
    node.signal(SIGHUP)
    await node.seen("registry_rejected")
    node.config.write_text(good)
    node.signal(SIGHUP)
    await node.seen("registry_reloaded")
    node.signal(SIGUSR1)
    await node.seen("state")


async def _answers(node: Daemon, token: str) -> str:
    """What every address answers to an administrator, over the socket and with a token over TCP."""
    said = []
    tcp = (await node.seen("ready"))["url"]
    for base, connector in (("http://jobsd", aiohttp.UnixConnector(str(node.socket))), (tcp, aiohttp.TCPConnector())):
        async with aiohttp.ClientSession(connector=connector, headers=bearer(token)) as session:
            for route in ROUTES:
                if route.method != "GET" or route.path.endswith("/events"):
                    continue
                for n, job in enumerate(("sends", "fails", "raises"), 1):
                    path = route.path.format(run=n, job=job, pack="analytics", view="signals", token="x")
                    async with session.get(URL(base + path)) as answer:
                        said.append(await answer.text())
    return "\n".join(said)


def _processes(node: Daemon) -> str:
    """The command lines of the daemon and all below it."""
    mine = psutil.Process(node.pid)
    lines = []
    for process in (mine, *mine.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):  # ended since
            lines.append(" ".join(process.cmdline()))
    return "\n".join(lines)


async def _dump(url: str) -> str:
    """Every row of the database, as text."""
    con = await asyncpg.connect(url)
    try:
        tables = await con.fetch(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace"
            "::text NOT IN ('pg_catalog', 'information_schema') AND relpersistence = 'p'"
        )
        rows = [
            await con.fetchval(f"SELECT string_agg('{table[0]} ' || t::text, E'\\n') FROM {table[0]} t")
            for table in tables
        ]
        return "\n".join(filter(None, rows))
    finally:
        await con.close()


@pytest.mark.req("A7", "C8", "P11")
@pytest.mark.fault(51)
async def test_no_secret_comes_out_of_a_daemon_by_any_door(database_url: str, daemon: Start, tmp_path: Path) -> None:
    url = database_url.replace("postgres@", f"postgres:{CANARY['database']}@")
    (tmp_path / "held").write_text(CANARY["file"])
    (tmp_path / "held").chmod(0o600)
    channels = {"alerts.channels.team": {"url": "json://u:${CHANNEL_PASSWORD}@127.0.0.1:9/"}}

    jobs = JOBS.replace('"held"', f'"{tmp_path}/held"')
    node = await daemon(jobs, settings=channels, environ=_environ(tmp_path), url=url)
    status, made = await node.request("POST", "/api/v1/tokens", {"name": "admin", "scope": "admin"})
    assert status == 201
    await _everything_happens(node)

    said = {
        "answers": await _answers(node, made["token"]),
        "processes": _processes(node),
        "database": await _dump(database_url),
    }
    await node.stop()
    said["log"] = node.log_end(100_000)

    secrets = {**CANARY, "token": made["token"]}
    found = [(where, kind) for where, text in said.items() for kind, secret in secrets.items() if secret in text]
    assert found == []
    assert "***" in said["answers"] and "***" in said["database"]


@pytest.mark.req("P11")
@pytest.mark.fault(51)
async def test_a_command_inherits_no_secret_and_leaves_no_core(
    database_url: str, daemon: Start, tmp_path: Path
) -> None:
    node = await daemon(
        JOBS.partition("[jobs.inherits]")[1] + JOBS.partition("[jobs.inherits]")[2], environ=_environ(tmp_path)
    )

    await node.trigger("inherits")
    core = await node.traced("core")

    inherited = {line.partition("=")[0] for line in await node.traced("env")}
    assert core == ["0"]
    assert resource.prlimit(node.pid, resource.RLIMIT_CORE)[0] == 0
    assert {name for name in inherited if not name.startswith(("JOBSD_", "LC_"))} <= ALLOWED
    assert not any(canary in line for line in node.traces for canary in CANARY.values())
