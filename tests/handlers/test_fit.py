"""What a job gives its handler is checked against the handler's model when the registry is loaded."""

import pytest

from tests.support.registry import Folder

HANDLER = "tests.support.handlers:import_course"  # course_id: str, limit: int from 1
CASES = {
    "a parameter that it does not have": (
        'params = { course_id = "a", limt = 5 }',
        """
        error[E0232]: params: ImportCourse has no parameter "limt"
          --> jobsd.toml:3:29
         3 | params = { course_id = "a", limt = 5 }
           |                             ^^^^ did you mean "limit"?
        """,
    ),
    "a value of another kind": (
        'params = { course_id = "a", limit = "many" }',
        """
        error[E0232]: params.limit: expected a valid integer, unable to parse string as an integer, got 'many'
          --> jobsd.toml:3:37
         3 | params = { course_id = "a", limit = "many" }
           |                                     ^^^^^^
        """,
    ),
    "a value out of bounds": (
        'params = { course_id = "a", limit = 0 }',
        """
        error[E0232]: params.limit: expected greater than or equal to 1, got 0
          --> jobsd.toml:3:37
         3 | params = { course_id = "a", limit = 0 }
           |                                     ^
        """,
    ),
    "a schedule without what must be given": (
        'params = { limit = 5 }\nschedule = { every = "1h" }',
        """
        error[E0232]: params: "course_id" is missing, and a schedule gives no other
          --> jobsd.toml:3:1
         3 | params = { limit = 5 }
           | ^^^^^^ ImportCourse needs it
        """,
    ),
    "a lock key with a parameter that it does not have": (
        'lock_key = "course:{course}"',
        """
        error[E0220]: lock_key: job "a" has no parameter "course"
          --> jobsd.toml:3:20
         3 | lock_key = "course:{course}"
           |                    ^^^^^^^^ it has: course_id, limit, run_id
        """,
    ),
}


@pytest.mark.req("C1")
@pytest.mark.parametrize(("keys", "said"), CASES.values(), ids=CASES.keys())
def test_parameters_that_do_not_fit_are_told_at_load(folder: Folder, keys: str, said: str) -> None:
    folder.path.joinpath("jobsd.toml").write_text(f'[jobs.a]\nhandler = "{HANDLER}"\n{keys}\n')

    indent = " " * 8
    assert folder.mistakes() == "\n".join(line.removeprefix(indent) for line in said.strip("\n").split("\n")[:-1])


@pytest.mark.req("C1")
@pytest.mark.parametrize(
    "keys", ["", "params = { limit = 5 }", 'lock_key = "course:{course_id}"', 'isolation = "process"']
)
def test_what_fits_is_taken_and_the_rest_may_come_with_the_request(folder: Folder, keys: str) -> None:
    folder.path.joinpath("jobsd.toml").write_text(f'[jobs.a]\nhandler = "{HANDLER}"\n{keys}\n')

    assert list(folder.load().jobs) == ["a"]


def test_a_plain_function_cannot_be_put_into_the_loop(folder: Folder) -> None:
    said = folder.mistakes('[jobs.a]\nhandler = "platform:node"\nisolation = "loop"\n')

    assert said == (
        'error[E0233]: handler "platform:node" is a plain function: it would block the loop\n'
        "  --> jobsd.toml:3:13\n"
        ' 3 | isolation = "loop"\n'
        '   |             ^^^^^^ expected "process", or an async function'
    )


def test_a_value_from_a_variable_is_not_told(folder: Folder) -> None:
    said = folder.mistakes(
        f'[jobs.a]\nhandler = "{HANDLER}"\n[jobs.a.params]\nlimit = "${{LIMIT}}"\n', LIMIT="s3cret-number"
    )

    assert "params.limit: expected a valid integer" in said
    assert "s3cret" not in said


def test_a_handler_is_told_at_its_place_with_what_its_module_has(folder: Folder) -> None:
    said = folder.mistakes('[jobs.a]\nhandler = "tests.support.handlers:import_curse"\n')

    assert said == (
        'error[E0231]: handler "tests.support.handlers:import_curse" not found; tests.support.handlers has: '
        'import_course. did you mean "import_course"?\n'
        "  --> jobsd.toml:2:11\n"
        ' 2 | handler = "tests.support.handlers:import_curse"\n'
        "   |           ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^"
    )
