"""Which file is taken, what it includes, and what a file must not be."""

import os
from pathlib import Path

import pytest

from jobsd.domain.errors import Exit, JobsdError
from jobsd.registry.files import SEARCHED
from jobsd.registry.load import load
from tests.support.registry import Folder

A_JOB = '[jobs.{name}]\ncommand = ["true"]\n'


@pytest.mark.req("C1")
def test_the_first_of_flag_variable_and_usual_places_is_taken(folder: Folder) -> None:
    for file, name in (
        ("flag.toml", "flag"),
        ("variable.toml", "variable"),
        ("jobsd.toml", "here"),
        ("config/jobsd.toml", "config"),
    ):
        folder.write(file, A_JOB.format(name=name))
    variable = {"JOBSD_CONFIG": "variable.toml"}

    assert set(load(Path("flag.toml"), variable).jobs) == {"flag"}
    assert set(load(None, variable).jobs) == {"variable"}
    assert set(load(None, {}).jobs) == {"here"}
    Path("jobsd.toml").unlink()
    assert set(load(None, {}).jobs) == {"config"}


@pytest.mark.req("C8")
@pytest.mark.skipif(SEARCHED[2].exists(), reason="this machine has a configuration of its own")
def test_without_any_file_it_is_told_where_was_looked(folder: Folder) -> None:
    assert folder.mistakes() == (
        "error[E0201]: no configuration file was found\n"
        "  looked for: jobsd.toml, config/jobsd.toml, /etc/jobsd/jobsd.toml\n"
        "  name one with --config FILE or JOBSD_CONFIG, or try jobsd without one: jobsd dev"
    )


@pytest.mark.req("C8")
def test_a_file_that_is_named_must_be_there(folder: Folder) -> None:
    with pytest.raises(JobsdError) as refused:
        load(Path("nowhere.toml"), {})

    assert str(refused.value) == "error[E0202]: cannot read nowhere.toml: no such file or directory"
    assert refused.value.exit_code == Exit.CONFIGURATION


@pytest.mark.req("C8")
@pytest.mark.fault(53)
def test_a_file_that_anyone_may_write_is_refused(folder: Folder) -> None:
    folder.write("jobsd.toml", A_JOB.format(name="a")).chmod(0o666)

    assert folder.mistakes() == (
        "error[E0224]: jobsd.toml can be written by anyone (mode 0666)\n"
        "  whoever writes it decides what runs here: chmod o-w jobsd.toml"
    )


@pytest.mark.req("C8")
@pytest.mark.fault(53)
def test_a_file_that_anyone_may_replace_is_refused_but_not_in_a_sticky_folder(folder: Folder) -> None:
    folder.write("etc/jobsd.toml", 'include = ["jobs.d/a.toml"]\n' + A_JOB.format(name="root"))
    jobs = folder.write("etc/jobs.d/a.toml", A_JOB.format(name="a")).parent

    jobs.chmod(0o777)
    told = folder.mistakes(JOBSD_CONFIG="etc/jobsd.toml")
    jobs.chmod(0o1777)

    assert told == (
        "error[E0224]: etc/jobs.d/a.toml can be replaced: etc/jobs.d can be written by anyone (mode 0777)\n"
        "  whoever writes it decides what runs here: chmod o-w etc/jobs.d"
    )
    assert set(load(folder.path / "etc/jobsd.toml", {}).jobs) == {"root", "a"}


@pytest.mark.req("C8")
@pytest.mark.fault(53)
def test_an_sql_file_that_anyone_may_write_is_refused(folder: Folder) -> None:
    folder.write("tidy.sql", "SELECT 1").chmod(0o646)

    told = folder.mistakes('[jobs.tidy]\nsql = "file:tidy.sql"\n')

    assert told.startswith("error[E0224]: jobs.tidy.sql: tidy.sql can be written by anyone (mode 0646)\n")
    assert "chmod o-w tidy.sql" in told


@pytest.mark.req("C8")
@pytest.mark.fault(53)
@pytest.mark.parametrize("way", ["by its path", "by PATH", "by a link"])
def test_a_program_that_anyone_may_replace_is_refused(folder: Folder, way: str) -> None:
    program = folder.write("bin/tidy", "#!/bin/sh\n")
    program.chmod(0o757)
    (folder.path / "link").symlink_to(program)
    named = {"by its path": str(program), "by PATH": "tidy", "by a link": str(folder.path / "link")}[way]
    folder.write("jobsd.toml", f'[jobs.tidy]\ncommand = ["{named}"]\n')

    with pytest.raises(JobsdError) as refused:
        load(folder.path / "jobsd.toml", {"PATH": str(program.parent)})
    program.chmod(0o755)

    (problem,) = refused.value.problems
    assert problem.code == "E0230"
    assert problem.message.endswith("can be written by anyone (mode 0757)")
    assert "chmod o-w" in problem.hints[0]
    assert load(folder.path / "jobsd.toml", {"PATH": str(program.parent)}).jobs


def test_a_file_that_is_no_text_is_refused(folder: Folder) -> None:
    (folder.path / "jobsd.toml").write_bytes(b"# caf\xe9\n")

    assert folder.mistakes() == "error[E0203]: jobsd.toml is not UTF-8: byte 0xe9 in line 1"


@pytest.mark.req("C1")
def test_included_files_count_from_the_file_that_names_them(folder: Folder) -> None:
    folder.write("etc/jobsd.toml", 'include = ["jobs.d/*.toml", "../more.toml"]\n' + A_JOB.format(name="root"))
    folder.write("etc/jobs.d/b.toml", A_JOB.format(name="b"))
    folder.write("etc/jobs.d/a.toml", A_JOB.format(name="a"))
    folder.write("more.toml", A_JOB.format(name="more"))

    registry = load(Path("etc/jobsd.toml"), {})

    assert list(registry.jobs) == ["root", "a", "b", "more"]
    assert [os.fspath(file) for file in registry.files] == [
        "etc/jobsd.toml",
        "etc/jobs.d/a.toml",
        "etc/jobs.d/b.toml",
        "etc/jobs.d/../../more.toml".replace("jobs.d/../", ""),
    ]


def test_a_file_is_read_once_however_many_patterns_match_it(folder: Folder) -> None:
    folder.write("a.toml", A_JOB.format(name="a"))

    registry = folder.load('include = ["*.toml", "a.toml", "./a.toml"]\n')

    assert list(registry.jobs) == ["a"]
    assert len(registry.files) == 2


def test_include_takes_texts_only(folder: Folder) -> None:
    assert folder.mistakes("include = [1]\n").startswith("error[E0205]: include: expected a file or pattern in quotes")
    assert folder.mistakes('include = "x"\n').startswith(
        'error[E0205]: include: expected a list of files or patterns, like ["jobs.d/*.toml"]'
    )


@pytest.mark.req("C1")
def test_sql_may_stand_in_a_file_beside_the_registry(folder: Folder) -> None:
    folder.write("jobs.d/sql/count.sql", "SELECT count(*)\n  FROM t -- ${not} a variable\n")
    folder.write("jobs.d/a.toml", '[jobs.a]\nsql = "file:sql/count.sql"\n')

    registry = folder.load('include = ["jobs.d/a.toml"]')

    assert registry.jobs["a"].sql == "SELECT count(*)\n  FROM t -- ${not} a variable\n"


def test_a_sql_file_that_is_not_there_is_told(folder: Folder) -> None:
    assert folder.mistakes('[jobs.a]\nsql = "file:count.sql"\n') == (
        "error[E0202]: jobs.a.sql: cannot read count.sql: no such file or directory\n"
        "  --> jobsd.toml:2:7\n"
        ' 2 | sql = "file:count.sql"\n'
        "   |       ^^^^^^^^^^^^^^^^"
    )


def test_a_file_outside_the_working_directory_is_told_by_its_whole_path(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.write("jobsd.toml", "[jobs.a]\n")
    elsewhere = folder.path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)

    with pytest.raises(JobsdError) as refused:
        load(file, {})

    assert f"  --> {file}:1:7" in str(refused.value)
