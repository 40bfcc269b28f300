"""How a command finds the daemon, and what it says when that one cannot be reached or refuses."""

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from jobsd.cli.address import find
from jobsd.cli.problems import rejected
from jobsd.domain.errors import Exit, JobsdError
from jobsd.domain.outcome import Completed
from jobsd.store.db import Db
from tests.support.command import COMMAND, LIMIT_S, environment, jobsd
from tests.support.site import Site, site

JOBS = '[jobs.report]\ncommand = ["true"]\n'


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


@contextmanager
def listener(path: Path) -> Iterator[socket.socket]:
    """A socket that takes connections and never answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as opened:
        opened.bind(str(path))
        opened.listen()
        yield opened


@asynccontextmanager
async def another_program() -> AsyncIterator[str]:
    """A web server that is not jobsd."""
    app = web.Application()
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    server = web.TCPSite(runner, "127.0.0.1", 0)
    await server.start()
    yield server.name
    await runner.cleanup()


class TestFinding:
    """Flag over environment over file over the usual places."""

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        Path("jobsd.toml").write_text('[http]\nsocket = "of-file"\n')
        Path(".jobsd").mkdir()
        Path(".jobsd/jobsd.sock").touch()

    @pytest.mark.parametrize(
        ("asked", "environ", "found"),
        [
            ({"url": "http://a:1/", "socket": "s"}, {"JOBSD_URL": "http://b:1"}, "http://a:1"),
            ({"socket": "s"}, {"JOBSD_URL": "http://b:1"}, "s"),
            ({}, {"JOBSD_URL": "http://b:1", "JOBSD_SOCKET": "e"}, "http://b:1"),
            ({}, {"JOBSD_SOCKET": "e"}, "e"),
            ({}, {}, "of-file"),
            ({"config": "gone.toml"}, {}, ".jobsd/jobsd.sock"),
        ],
    )
    def test_the_first_that_is_named_is_taken(self, asked: dict[str, str], environ: dict[str, str], found: str) -> None:
        assert str(find(asked, environ)) == found

    @pytest.mark.parametrize("text", ["not = [toml", "[jobs.a]\n", 'http = 3\nsocket = "x"\n', "[http]\nsocket = 7\n"])
    def test_a_configuration_that_names_no_socket_leaves_the_usual_one(self, text: str) -> None:
        Path("jobsd.toml").write_text(text)

        assert str(find({}, {})) == ".jobsd/jobsd.sock"

    def test_the_token_goes_with_a_url_only(self) -> None:
        assert find({"url": "https://a"}, {"JOBSD_TOKEN": "t"}).token == "t"
        assert find({"socket": "s"}, {"JOBSD_TOKEN": "t"}).token is None


@pytest.mark.parametrize("url", ["db1:8620", "ftp://db1", "http://"])
def test_a_url_of_another_kind_is_e0101_and_exit_2(url: str) -> None:
    ended = jobsd("job", "list", "--url", url)

    assert ended.code == 2
    assert ended.err.startswith(f'error[E0101]: --url: expected http://HOST:PORT or https://…, got "{url}"')


def test_without_any_daemon_it_is_e0403_and_exit_7_with_what_was_tried(tmp_path: Path) -> None:
    ended = jobsd("status", cwd=tmp_path)

    assert ended.code == 7
    assert ended.err.startswith("error[E0403]: no daemon found on this machine")
    assert "looked for: .jobsd/jobsd.sock, /run/jobsd/jobsd.sock" in ended.err
    assert "jobsd dev" in ended.err


@pytest.mark.parametrize("option", ["--socket", "--url"])
def test_a_daemon_that_is_gone_is_e0403_and_exit_7(tmp_path: Path, option: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    where = f"http://127.0.0.1:{port}" if option == "--url" else str(tmp_path / "left.sock")
    with listener(tmp_path / "left.sock"):
        pass

    ended = jobsd("job", "list", option, where)

    assert ended.code == 7
    assert ended.err.startswith(f"error[E0403]: the daemon at {where} does not answer: connection refused")


def test_a_daemon_that_hangs_up_is_e0403_and_exit_7(tmp_path: Path) -> None:
    with listener(tmp_path / "s") as taken:
        process = subprocess.Popen(
            [*COMMAND, "job", "list", "--socket", str(tmp_path / "s")],
            env=environment({}),
            stderr=subprocess.PIPE,
            text=True,
        )
        taken.accept()[0].close()
        _, err = process.communicate(timeout=LIMIT_S)

    assert process.returncode == 7
    assert err.startswith("error[E0403]: the daemon at ")
    assert "Traceback" not in err


async def test_what_is_not_jobsd_is_e0403_and_exit_7() -> None:
    async with another_program() as url:
        ended = await asyncio.to_thread(jobsd, "job", "list", "--url", url)

    assert ended.code == 7
    assert "is not jobsd: HTTP 404, text/plain" in ended.err


def test_a_socket_that_may_not_be_opened_is_e0404_and_exit_4(tmp_path: Path) -> None:
    with listener(tmp_path / "s"):
        (tmp_path / "s").chmod(0)
        argv = [*COMMAND, "job", "list", "--socket", str(tmp_path / "s")]
        if os.geteuid() == 0:  # root may open anything, unless it gives that right away
            argv = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search", *argv]
        ended = subprocess.run(argv, env=environment({}), capture_output=True, text=True, timeout=LIMIT_S)

    assert ended.returncode == 4
    assert f"may not open the socket {tmp_path}/s: permission denied" in ended.stderr
    assert ended.stderr.startswith("error[E0404]: ")


async def test_reading_over_tcp_works_and_a_change_without_token_is_e0402_and_exit_4(here: Site) -> None:
    read = await here.jobsd("job", "list", "--url", here.addresses.url)
    change = await here.jobsd("trigger", "report", "--url", here.addresses.url)

    assert (read.code, len(read.out.splitlines())) == (0, 2)
    assert change.code == 4
    assert change.err.startswith("error[E0402]: no token")


async def test_a_database_that_does_not_answer_is_e0511_and_exit_7(here: Site) -> None:
    await here.db.close()
    here.db.url = "postgresql://127.0.0.1:1/gone"

    ended = await here.jobsd("job", "list")

    assert ended.code == 7
    assert ended.err.startswith("error[E0511]: the database cannot be asked just now")


async def test_a_wait_outlives_a_restart_of_the_daemon(here: Site) -> None:
    process = await asyncio.create_subprocess_exec(
        *(*COMMAND, "trigger", "report", "--wait", "--socket", str(here.folder / "second.sock")),
        env=environment({}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    async with here.listening("second.sock"):
        run = await here.taken()
        while b"running" not in await process.stderr.readline():
            pass
    assert b"does not answer" in await process.stderr.readline()
    await here.ends(run, Completed("done"))
    async with here.listening("second.sock"):
        out, _ = await process.communicate()

    assert process.returncode == 0
    assert b'"done"' in out or b"done" in out


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, Exit.USAGE),
        (401, Exit.PERMISSION),
        (403, Exit.PERMISSION),
        (404, Exit.NOT_FOUND),
        (409, Exit.CONFLICT),
        (413, Exit.USAGE),
        (422, Exit.USAGE),
        (429, Exit.UNREACHABLE),
        (500, Exit.FAILED),
        (503, Exit.UNREACHABLE),
    ],
)
def test_each_refusal_has_its_exit_status(status: int, code: Exit) -> None:
    assert rejected(status, {"code": "E0502", "detail": "no"}, "here").exit_code == code


def test_all_mistakes_of_a_problem_document_are_told_each_with_its_place() -> None:
    place = {"file": "jobsd.toml", "line": 3, "column": 1, "text": 'crn = "x"', "width": 3}
    document = {
        "code": "E0204",
        "hint": "see: jobsd check",
        "errors": [
            {"code": "E0204", "detail": 'unknown key "crn"', "place": place, "note": 'did you mean "cron"?'},
            {"code": "E0206", "detail": "a key is missing", "hints": ["one", "two"]},
        ],
    }

    error = rejected(422, document, "here")

    assert str(error) == (
        'error[E0204]: unknown key "crn"\n  --> jobsd.toml:3:1\n 3 | crn = "x"\n   | ^^^ did you mean "cron"?\n'
        "error[E0206]: a key is missing\n  one\n  two\n  see: jobsd check"
    )


def test_a_code_of_a_newer_daemon_is_told_all_the_same() -> None:
    error: JobsdError = rejected(409, {"code": "E9999", "detail": "the moon is full"}, "here")

    assert str(error) == "error[E0507]: the moon is full (E9999)"
    assert error.exit_code == Exit.CONFLICT
