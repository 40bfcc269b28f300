"""How every command ends: told mistakes, exit statuses, options anywhere on the line."""

import subprocess
import sys
from pathlib import Path

import pytest

from jobsd.cli.failure import masked, report
from jobsd.cli.root import COMMANDS
from jobsd.domain.errors import Exit, problem
from tests.support.command import COMMAND, environment, jobsd, on_terminal


def test_root_help_groups_its_commands() -> None:
    ended = jobsd("--help")

    headings = [line for line in ended.out.split("\n") if line.endswith(":") and not line.startswith(" ")]
    assert headings == ["Options:", "Start:", "Look:", "Act:", "Set up:"]
    for name, entry in COMMANDS.items():
        assert (f"  {name} " in ended.out) is bool(entry.group)
        assert entry.help in ended.out


def test_every_command_in_the_table_is_there() -> None:
    for name in COMMANDS:
        assert jobsd(name, "--help").code == Exit.OK, name


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chekc"], 'error[E0101]: there is no command "chekc".  did you mean "check"?\n  see: jobsd --help\n'),
        (["xyz"], 'error[E0101]: there is no command "xyz".\n  see: jobsd --help\n'.replace(".\n  see", "\n  see")),
        (["check", "--nope"], "error[E0101]: no such option '--nope'\n  see: jobsd check --help\n"),
        (
            ["config", "show", "-o", "xml"],
            "error[E0101]: invalid value for '-o' / '--output': "
            "'xml' is not one of 'table', 'json', 'jsonl', 'tsv'\n  see: jobsd config show --help\n",
        ),
    ],
)
def test_a_wrong_command_line_is_a_problem_like_any_other(args: list[str], said: str) -> None:
    ended = jobsd(*args)

    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert ended.err.replace("No such", "no such").replace(": --nope", " '--nope'") == said


def test_a_command_without_its_subcommand_shows_its_help() -> None:
    ended = jobsd("config")

    assert (ended.code, ended.out) == (Exit.USAGE, "")
    assert "Commands:" in ended.err


@pytest.mark.parametrize("args", [["--config", "x.toml", "config", "path"], ["config", "path", "--config", "x.toml"]])
def test_shared_options_may_stand_before_or_after_the_command(tmp_path: Path, args: list[str]) -> None:
    (tmp_path / "x.toml").touch()

    ended = jobsd(*args, cwd=tmp_path)

    assert (ended.code, ended.out) == (Exit.OK, "x.toml\n")


def test_the_version_is_told() -> None:
    from jobsd import __version__

    assert jobsd("--version").out == f"jobsd {__version__}\n"


def test_a_mistake_of_ours_is_one_line_and_a_traceback_only_with_v(capsys: pytest.CaptureFixture[str]) -> None:
    error = raised(ValueError("no"))

    assert report(error, verbose=False) == Exit.FAILED
    assert capsys.readouterr().err == "internal error: ValueError: no\n  run it again with -v to see where\n"
    assert report(error, verbose=True) == Exit.FAILED
    assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


def test_no_password_of_an_address_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    report(raised(ValueError("cannot use postgresql://me:pa55word@db/app")), verbose=True)

    said = capsys.readouterr().err
    assert "pa55word" not in said
    assert "postgresql://me:***@db/app" in said
    assert masked("at db1:5432/app (user me)") == "at db1:5432/app (user me)"


def test_a_problem_ends_with_its_own_exit_status(capsys: pytest.CaptureFixture[str]) -> None:
    error = problem("E0501", "no job", "look here", exit_code=Exit.NOT_FOUND)

    assert report(error, verbose=False) == Exit.NOT_FOUND
    assert capsys.readouterr().err == "error[E0501]: no job\n  look here\n"


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt(), 130), (SystemExit(4), 4), (SystemExit(None), 0), (SystemExit("no"), 1)]
)
def test_what_ends_a_command_from_outside_has_its_status(error: BaseException, status: int) -> None:
    assert report(error, verbose=False) == status


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen(
        [*COMMAND, "config", "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment({})
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()

        assert process.stderr.read() == b""
        assert process.wait() == Exit.FAILED


def test_problems_are_coloured_for_a_person_who_wants_it() -> None:
    assert "\x1b[31m" in on_terminal("chekc").out
    assert "\x1b[" not in on_terminal("chekc", NO_COLOR="1").out
    assert "\x1b[" not in on_terminal("chekc", TERM="dumb").out


def test_the_module_runs_like_the_script() -> None:
    script = Path(sys.executable).with_name("jobsd")

    as_script = subprocess.run([script, "--help"], capture_output=True, text=True, env=environment({}), check=True)

    assert as_script.stdout == jobsd("--help").out


def raised(error: Exception) -> Exception:
    """`error` with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught
