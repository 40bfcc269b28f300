"""A start proves everything before it says that it is ready; else there is one clear error and a documented status."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobsd.store.db import Db
from jobsd.store.migrate import shipped
from tests.support.command import jobsd
from tests.support.daemon import Daemon
from tests.support.postgres import OwnServer

Start = Callable[..., Awaitable[Daemon]]
JOB = '[jobs.nothing]\ncommand = ["true"]\n'
NOWHERE = "postgresql://app:geheim@127.0.0.1:1/app"


async def refusal(node: Daemon) -> tuple[int, str]:
    """How a start that must not succeed ended: exit status, and all that it wrote. READY was never said."""
    code = await node.exited()
    text = "\n".join(node.said)
    assert ("READY", "1") not in node.notes
    assert "Traceback" not in text
    assert "geheim" not in text + str(node.lines)
    return code, text


@contextmanager
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.req("C8")
async def test_no_database_is_e0301_and_78(daemon: Start) -> None:
    code, text = await refusal(await daemon(JOB, url="", ready=False))

    assert code == 78
    assert text.startswith("error[E0301]: no database is configured")
    assert "set DATABASE_URL" in text


@pytest.mark.req("C8")
async def test_a_server_that_stays_away_is_e0302_and_7_once_the_time_for_it_is_over(daemon: Start) -> None:
    settings = {"database": {"connect_timeout": "500ms"}}

    code, text = await refusal(await daemon(JOB, url=NOWHERE, settings=settings, ready=False))

    assert code == 7
    assert text.startswith(
        "error[E0302]: cannot reach PostgreSQL at 127.0.0.1:1/app (user app): connection refused, tried "
    )


@pytest.mark.req("C8")
async def test_a_url_that_is_none_is_told_at_once_and_is_78(daemon: Start) -> None:
    code, text = await refusal(await daemon(JOB, url="db1:5432/app", ready=False))

    assert code == 78
    assert text.startswith("error[E0302]: the database URL cannot be used: ")


@pytest.mark.req("C8")
async def test_a_server_that_comes_up_in_time_is_waited_for(
    daemon: Start, own_server: Callable[..., OwnServer]
) -> None:
    server = own_server()
    url = await server.database()
    await asyncio.to_thread(server.stop)

    node = await daemon(JOB, url=url, settings={"database": {"connect_timeout": "25s"}}, ready=False)
    await node.seen("waiting_for_database")
    too_early = ("READY", "1") in node.notes
    await asyncio.to_thread(server.start)
    await node.notified("READY", "1")

    assert not too_early
    assert (await node.request("GET", "/readyz"))[0] == 200
    assert await node.stop() == 0


@pytest.mark.req("C8")
async def test_a_password_or_a_database_that_the_server_refuses_is_e0303_and_7(
    daemon: Start, own_server: Callable[..., OwnServer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    server = own_server()
    rules = Path(server.folder) / "data" / "pg_hba.conf"
    rules = rules if rules.exists() else next(Path(server.folder).rglob("pg_hba.conf"))
    async with Db.open(await server.database()) as db:
        await db.execute("CREATE ROLE app LOGIN PASSWORD 'right'")
        rules.write_text("local all app scram-sha-256\n" + rules.read_text())
        await db.execute("SELECT pg_reload_conf()")
    wrong = server.url("jobsd").replace("//postgres@", "//app:geheim@")
    missing = server.url("no_such_database")

    refused = [await refusal(await daemon(JOB, url=url, ready=False)) for url in (wrong, missing)]

    assert [code for code, _ in refused] == [7, 7]
    assert [text.splitlines()[0] for _, text in refused] == [
        'error[E0303]: PostgreSQL refuses the connection: password authentication failed for user "app"',
        'error[E0303]: PostgreSQL refuses the connection: database "no_such_database" does not exist',
    ]


@pytest.mark.req("C8")
async def test_a_schema_that_is_behind_or_ahead_is_refused_with_78_and_left_as_it_is(
    daemon: Start, empty_database_url: str, db: Db
) -> None:
    await db.execute("UPDATE jobsd.migration SET number = 9999 WHERE number = 1")

    behind = await refusal(await daemon(JOB, url=empty_database_url, ready=False))
    ahead = await refusal(await daemon(JOB, ready=False))

    assert (behind[0], ahead[0]) == (78, 78)
    assert behind[1].startswith(f"error[E0305]: the schema is {len(shipped())} migration")
    assert "jobsd db migrate" in behind[1]
    assert ahead[1].startswith("error[E0306]: database schema 9999 is newer than this jobsd")
    async with Db.open(empty_database_url) as empty:
        assert await empty.fetchval("SELECT to_regnamespace('jobsd')") is None


@pytest.mark.req("C8", "C1")
async def test_a_wrong_configuration_is_refused_with_78_and_every_mistake(daemon: Start) -> None:
    wrong = '[jobs.one]\ncomand = ["true"]\n[jobs.two]\nhandler = "no.such:thing"\nschedule = { cron = "61 * * * *" }\n'

    code, text = await refusal(await daemon(wrong, ready=False))
    unfit_code, unfit = await refusal(await daemon('[jobs.two]\nhandler = "no.such:thing"\n', ready=False))

    assert (code, unfit_code) == (78, 78)
    assert 'error[E0204]: unknown key "comand"' in text
    assert "error[E0211]" in text
    assert "jobsd.toml:" in text
    assert "error[E0231]" in unfit


@pytest.mark.req("C8")
async def test_a_daemon_without_a_unix_socket_says_so(daemon: Start) -> None:
    node = await daemon(JOB, settings={"http": {"socket": ""}})

    assert (await node.seen("ready"))["socket"] in (None, "/run/jobsd/jobsd.sock")  # the latter where the unit runs


@pytest.mark.req("C8")
async def test_a_port_in_use_is_e0401_and_names_the_process_that_has_it(daemon: Start, db: Db) -> None:
    first = await daemon(JOB)
    port = int((await first.seen("ready"))["url"].rpartition(":")[2])

    second = await daemon(JOB, settings={"http": {"port": port}}, ready=False)
    code, text = await refusal(second)

    assert code == 1
    assert text.startswith(f"error[E0401]: port {port} is in use by pid {first.pid} (")
    state = await db.fetchval("SELECT state FROM jobsd.node WHERE pid = $1", second.pid)
    assert state == "stopped"


@pytest.mark.req("C8", "P3")
async def test_a_state_directory_serves_one_daemon_at_a_time(daemon: Start, db: Db) -> None:
    first = await daemon(JOB)

    second = await daemon(JOB, settings={"daemon": {"state_dir": str(first.state_dir)}}, ready=False)
    code, text = await refusal(second)

    assert code == 78
    assert text.startswith(f"error[E0405]: another jobsd (pid {first.pid}) uses the state directory {first.state_dir}")
    assert (await first.request("GET", "/readyz"))[0] == 200
    assert await db.fetchval("SELECT count(*) FROM jobsd.node") == 1


@pytest.mark.req("C8")
async def test_a_state_directory_that_cannot_be_made_is_e0406(daemon: Start, tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    code, text = await refusal(
        await daemon(JOB, settings={"daemon": {"state_dir": f"{tmp_path}/file/state"}}, ready=False)
    )

    assert code == 78
    assert text.startswith(f"error[E0406]: the state directory {tmp_path}/file/state cannot be used: Not a directory")


@pytest.mark.req("P11")
@pytest.mark.fault(53)
async def test_a_state_directory_that_anyone_may_write_to_is_e0406(daemon: Start, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o1777)
    node = await daemon(settings={"daemon": {"state_dir": str(state)}}, ready=False)

    status, text = await refusal(node)

    assert status == 78
    assert text.startswith(f"error[E0406]: the state directory {state} can be written by anyone (mode 1777)")
    assert list(state.iterdir()) == []


@pytest.mark.req("P11")
@pytest.mark.fault(53)
async def test_a_link_in_the_place_of_a_lock_file_leads_nowhere(daemon: Start, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("not to be emptied")
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state" / "daemon.lock").symlink_to(victim)
    node = await daemon(settings={"daemon": {"state_dir": str(tmp_path / "state")}}, ready=False)

    status, text = await refusal(node)

    assert status == 78
    assert text.startswith(f"error[E0406]: the state directory {tmp_path}/state cannot be used")
    assert victim.read_text() == "not to be emptied"


@pytest.mark.req("C8")
async def test_two_nodes_that_migrate_at_once_apply_each_migration_once(
    empty_database_url: str, tmp_path: Path, daemon: Start
) -> None:
    ended = await asyncio.gather(
        *(asyncio.to_thread(jobsd, "db", "migrate", cwd=tmp_path, DATABASE_URL=empty_database_url) for _ in range(3))
    )

    assert [(each.code, each.err) for each in ended] == [(0, "")] * 3
    async with Db.open(empty_database_url) as db:
        applied = await db.fetch("SELECT number FROM jobsd.migration ORDER BY number")
    assert [row["number"] for row in applied] == [each.number for each in shipped() if each.pack == "core"]
    await daemon(JOB, url=empty_database_url)


@pytest.mark.req("C8")
async def test_every_session_says_what_it_is_for_and_whose(daemon: Start, db: Db) -> None:
    node = await daemon("", settings={"daemon": {"name": "north"}})
    await node.request("GET", "/readyz")
    names = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE application_name LIKE '% north'"

    async with asyncio.timeout(30):
        while len(found := {row["application_name"] for row in await db.fetch(names)}) < 3:
            await asyncio.sleep(0.05)

    assert found == {"jobsd lock north", "jobsd work north", "jobsd listen north"}
