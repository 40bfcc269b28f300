"""Lists and facts in each form: for a terminal, a pipe, a program."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from jobsd.cli import render
from jobsd.cli.render import Column, Row

COLUMNS = (Column("id", "RUN"), Column("state", kind="state"), Column("error", wide=True))
ROWS = [{"id": 7, "state": "failed", "error": "a\tb\nc", "more": {"x": 1}}, {"id": 8, "state": "queued", "error": None}]


def shown(capsys: pytest.CaptureFixture[str], output: str, rows: Sequence[Row] = ROWS) -> str:
    render.rows(rows, COLUMNS, output, "there are none")
    return capsys.readouterr().out


def test_tab_separated_output_has_a_header_and_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, "tsv") == "id\tstate\terror\n7\tfailed\ta\\tb\\nc\n8\tqueued\t\n"


def test_json_is_one_document_with_all_that_the_api_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(shown(capsys, "json")) == ROWS


def test_json_lines_are_one_document_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert [json.loads(line) for line in shown(capsys, "jsonl").splitlines()] == ROWS


def test_a_table_in_a_pipe_is_aligned_whole_and_without_colour(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, "table", [{"id": 7, "state": "failed", "error": "x" * 500}]).splitlines()

    assert lines[0].split() == ["RUN", "STATE", "ERROR"]
    assert lines[1].endswith(f" failed  {'x' * 500}")
    assert "\x1b" not in "".join(lines)


def test_an_empty_list_is_told_on_standard_error_to_a_person_alone(capsys: pytest.CaptureFixture[str]) -> None:
    render.rows([], COLUMNS, "table", "there are none")
    person = capsys.readouterr()
    render.rows([], COLUMNS, "json", "there are none")
    program = capsys.readouterr()

    assert (person.out, person.err) == ("", "there are none\n")
    assert (program.out, program.err) == ("[]\n", "")


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("json", '{\n  "id": 7\n}\n'),
        ("jsonl", '{"id": 7}\n'),
        ("tsv", "id\tstate\terror\n7\t\t\n"),
        ("table", "run  7\n"),
    ],
)
def test_one_thing_is_shown_in_each_form(capsys: pytest.CaptureFixture[str], output: str, text: str) -> None:
    item: dict[str, Any] = {"id": 7}

    render.record(item, COLUMNS, output)

    assert capsys.readouterr().out == text


def test_what_has_several_lines_stays_in_its_column(capsys: pytest.CaptureFixture[str]) -> None:
    render.record({"id": 7, "error": "one\ntwo"}, COLUMNS, "table")

    assert capsys.readouterr().out == "run    7\nerror  one\n       two\n"


@pytest.mark.parametrize(
    ("natural", "wide", "room", "widths"),
    [
        ([5, 10], [False, True], 80, [5, 10]),
        ([5, 100], [False, True], 30, [5, 25]),
        ([5, 40, 60], [False, True, True], 65, [5, 30, 30]),
        ([20, 20, 60], [False, False, True], 40, [16, 16, 8]),
        ([20, 20], [False, False], 10, [8, 8]),
        ([3], [False], 1, [3]),
    ],
)
def test_wide_columns_give_way_first_and_the_widest_of_them_most(
    natural: list[int], wide: list[bool], room: int, widths: list[int]
) -> None:
    assert render.fitted(natural, wide, room) == widths


def test_a_state_is_never_cut_for_the_other_columns_room() -> None:
    assert render.fitted([20, 11, 20, 60], [False, False, False, True], 40, kept=[1]) == [10, 11, 11, 8]
