"""The documentation says what is there: nothing is missing, nothing is made up, every link leads somewhere."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from docs import generate
from docs.coverage import FAULTS, REQUIREMENTS, proofs
from jobsd.cli.root import COMMANDS, root
from jobsd.domain.codes import CODES
from jobsd.domain.slot import Decision
from jobsd.observe.metrics import Metrics
from jobsd.registry.schema import every_key
from jobsd.store.db import Db
from jobsd.web.app import ROUTES
from tests.support.command import jobsd

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
REFERENCE = ROOT / "docs" / "reference"


def text(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", [page for page, _, _ in generate.pages()], ids=lambda page: page.name)
def test_what_is_generated_is_up_to_date(page: Path) -> None:
    wanted = {each: after for each, _, after in generate.pages()}

    assert page.read_text(encoding="utf-8") == wanted[page], "make docs"


@pytest.mark.req("A9", "C9")
def test_the_page_of_jobs_is_what_the_shipped_registry_says() -> None:
    done = jobsd("--config", "config/jobsd.toml", "docs", "--check", cwd=ROOT)

    assert done.code == 0, f"make docs\n{done.out}{done.err}"


def test_every_setting_is_in_the_reference() -> None:
    page = text("configuration.md")

    missing = [key.path for key in every_key() if f"`{key.path}`" not in page and f"`[{key.path}]`" not in page]

    assert missing == ["jobs"]  # the table of all jobs: told by its keys


def test_every_decision_on_a_slot_is_explained() -> None:
    page = text("configuration.md")

    assert [each for each in Decision if f"| `{each.value}` |" not in page] == []


def test_every_error_has_its_meaning_and_a_way_out() -> None:
    rows = dict(re.findall(r"^\| (E\d{4}) \| (.+?) \| .+ \|$", text("errors.md"), re.MULTILINE))

    assert rows == dict(CODES)


def test_every_metric_is_in_the_reference() -> None:
    scrape = Metrics().render()[0].decode()

    names = re.findall(r"^# HELP (\S+)", scrape, re.MULTILINE)

    assert names
    assert [name for name in names if f"`{name}`" not in text("metrics.md")] == []


def test_every_address_is_in_the_reference() -> None:
    page = text("http.md")

    assert [route.path for route in ROUTES if f"| {route.method} | `{route.path}` |" not in page] == []


def test_every_command_is_in_the_reference() -> None:
    page = text("commands.md")

    assert [name for name in all_commands() if f" `{name}`\n" not in page] == []


def test_every_event_of_the_log_is_in_the_reference_and_no_other() -> None:
    rows = re.findall(r"^\| (`[a-z_]+`(?:, `[a-z_]+`)*) \| ", text("log-events.md"), re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`([a-z_]+)`", row)}

    assert told - ALERTS == events() - ALERTS
    assert told >= ALERTS


async def test_every_column_of_the_views_is_in_the_reference(db: Db) -> None:
    page = text("sql.md")
    sections = dict(re.findall(r"^## jobsd\.(\w+)\n(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL))
    views = await db.fetch("SELECT viewname AS name FROM pg_views WHERE schemaname = 'jobsd'")

    for view in [row["name"] for row in views]:
        columns = await db.fetch(
            "SELECT attname::text AS name FROM pg_attribute WHERE attrelid = ('jobsd.' || $1)::regclass AND attnum > 0",
            view,
        )
        told = {name for line in re.findall(r"^\| (`.*?) \|", sections[view], re.MULTILINE) for name in named(line)}
        assert told == {row["name"] for row in columns}, view


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in anchors(found), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_that_is_shown_exists(page: Path) -> None:
    known = {"jobsd", *all_commands()}
    flags = {flag for name in known for flag in options_of(name)}

    for line in shown_commands(page):
        words = line.split()
        words = [PLURALS.get(word, word) for word in words[words.index("jobsd") :]]
        name = next((" ".join(words[:size]) for size in (3, 2) if " ".join(words[:size]) in known), None)
        assert name or words[1].startswith("-"), line
        used = {word.partition("=")[0] for word in words if re.fullmatch(r"--[a-z-]+(=.*)?", word)}
        assert used <= flags, line


def test_every_target_of_make_that_the_first_page_names_exists() -> None:
    made = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))

    named_there = set(
        re.findall(r"(?m)(?:^|`)make ([a-z][a-z0-9-]+)", (ROOT / "README.md").read_text(encoding="utf-8"))
    )

    assert {"demo", "test"} <= named_there <= made


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_example_in_toml_is_toml(page: Path) -> None:
    for example in re.findall(r"^```toml\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        tomllib.loads(example)


def test_every_mark_names_a_requirement_that_is_written_down() -> None:
    asked = tomllib.loads(REQUIREMENTS.read_text(encoding="utf-8"))

    assert {proof.of for proof in proofs()} <= set(asked)
    assert [name for name, facts in asked.items() if not facts.keys() <= {"asks", "later"}] == []


def test_a_requirement_without_a_test_says_with_what_it_comes() -> None:
    asked = tomllib.loads(REQUIREMENTS.read_text(encoding="utf-8"))
    proved = {proof.of for proof in proofs()}

    assert [name for name, facts in asked.items() if name not in proved and "later" not in facts] == []


def test_every_fault_that_is_written_down_is_injected_by_a_test_and_no_other() -> None:
    known = tomllib.loads(FAULTS.read_text(encoding="utf-8"))
    injected = {proof.of for proof in proofs("fault")}

    assert list(known) == [str(number) for number in range(1, len(known) + 1)]
    assert injected == set(known)
    assert [number for number, facts in known.items() if facts.keys() != {"fault", "holds"}] == []


def test_every_decision_is_listed() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (folder / "README.md").read_text(encoding="utf-8"))

    assert listed == sorted(page.name for page in folder.glob("0*.md"))
    assert [page[:4] for page in listed] == [f"{number:04}" for number in range(1, len(listed) + 1)]


# -- what there is

PLURALS = {"jobs": "job", "runs": "run"}  # nouns that may be written so
ALERTS = {"job_failed", "job_lost", "job_stale", "config_rejected", "health", "audit_broken"}  # named for their type
NAME = re.compile("[a-z]+(_[a-z]+)*")
STATES = {"up", "lost", "adopted", "fenced"}  # of the lock session


def events() -> set[str]:
    """The names of all lines: those that `Noted` carries, and those that `observe.wording` gives to other events."""
    found = {f"lock_session_{state}" for state in STATES} | {"library", "log_lines_lost"}
    for path in (ROOT / "jobsd").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("Noted", "self._leave") and node.args:
                found |= set(names_in(node.args[0]))
    wording = ast.parse((ROOT / "jobsd" / "observe" / "wording.py").read_text(encoding="utf-8"))
    for node in ast.walk(wording):
        if isinstance(node, ast.Tuple):
            found |= {name for part in node.elts[:2] for name in names_in(part) if "_" in name}
    return found


def names_in(node: ast.AST) -> Iterator[str]:
    """The texts in an expression that may be an event's name."""
    for part in ast.walk(node):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and NAME.fullmatch(part.value):
            yield part.value


def all_commands() -> list[str]:
    return [name for name, _ in walk(root, click.Context(root, info_name="jobsd"))]


def options_of(name: str) -> set[str]:
    every = dict(walk(root, click.Context(root, info_name="jobsd"), hidden=True))
    params = every[name].params if name in every else root.params
    return {flag for param in params for flag in param.opts}


def walk(group: click.Group, context: click.Context, hidden: bool = False) -> Iterator[tuple[str, click.Command]]:
    names = COMMANDS if group is root else group.list_commands(context)
    for name in names:
        command = group.get_command(context, name)
        if command is None or (command.hidden and not hidden):
            continue
        inner = click.Context(command, context, info_name=name)
        yield inner.command_path, command
        if isinstance(command, click.Group):
            yield from walk(command, inner, hidden)


# -- what is said


def named(line: str) -> list[str]:
    return re.findall(r"`(\w+)`", line)


def links(page: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return [to for to in re.findall(r"\]\(([^)\s]+)\)", prose) if not re.match("https?://", to)]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown_commands(page: Path) -> list[str]:
    """Lines of code blocks, and code in the text, that run `jobsd`."""
    whole = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```\n(.*?)^```", whole, re.MULTILINE | re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    spans = re.findall(r"`(jobsd [a-z][^`]*)`", re.sub(r"^```.*?^```", "", whole, flags=re.MULTILINE | re.DOTALL))
    plain = re.compile(r"^(?:[A-Z_]+=\S+ )*jobsd [a-z]")
    return [line for line in [*lines, *spans] if plain.match(line) and line != "jobsd COMMAND --help"]
