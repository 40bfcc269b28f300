"""The tables of docs/COVERAGE.md and docs/FAULTS.md: which test proves what, read off the markers of the tests.

What a requirement asks for, and what of it is not there yet, is written down in docs/requirements.toml; what may go
wrong, and what holds then, in docs/faults.toml.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
REQUIREMENTS = Path(__file__).parent / "requirements.toml"
FAULTS = Path(__file__).parent / "faults.toml"


class Proof(NamedTuple):
    """A test, and the requirement or fault that it is marked with."""

    of: str
    file: str
    test: str


def proofs(mark: str = "req") -> list[Proof]:
    """Every such mark of every test, in the order of the files."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name, tree = str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))
        of_all = {each for node in tree.body if is_pytestmark(node) for each in marked(node, mark)}
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                own = {each for decorator in node.decorator_list for each in marked(decorator, mark)}
                found += [Proof(each, name, node.name) for each in sorted(of_all | own)]
    return found


def is_pytestmark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "pytestmark"


def marked(node: ast.AST, mark: str) -> Iterator[str]:
    """The ids in each `pytest.mark.<mark>(…)` below `node`."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == f"pytest.mark.{mark}":
            yield from (str(arg.value) for arg in call.args if isinstance(arg, ast.Constant))


def coverage() -> Iterator[str]:
    """One table of all requirements, then each with its tests and the command that runs them."""
    asked = tomllib.loads(REQUIREMENTS.read_text(encoding="utf-8"))
    marks = proofs()
    tests = {name: [proof for proof in marks if proof.of == name] for name in asked}
    yield "| Requirement | Asks for | Tests | Not there yet |"
    yield "| --- | --- | ---: | --- |"
    for name, facts in asked.items():
        count = len(tests[name])
        link = f"[{name}](#{name.lower()})" if count else name
        yield f"| {link} | {facts['asks']} | {count or ''} | {facts.get('later', '')} |"
    yield ""
    for name, found in tests.items():
        if found:
            yield from of_requirement(name, asked[name]["asks"], found)


def of_requirement(name: str, asks: str, found: list[Proof]) -> Iterator[str]:
    files = list(dict.fromkeys(proof.file for proof in found))
    yield f"## {name}\n"
    yield f"{asks[:1].upper()}{asks[1:]}.\n"
    yield f'`make test ARGS="{" ".join(files)}"`\n'
    for file in files:
        yield f"- [{file}](../{file})"
        yield from (f"  - {sentence(proof.test)}" for proof in found if proof.file == file)
    yield ""


def faults() -> Iterator[str]:
    """One table of all faults with what holds, then each with its tests."""
    known = tomllib.loads(FAULTS.read_text(encoding="utf-8"))
    marks = proofs("fault")
    yield "| # | Fault | What holds | Tests |"
    yield "| ---: | --- | --- | ---: |"
    for number, facts in known.items():
        count = sum(proof.of == number for proof in marks)
        yield f"| {number} | {facts['fault']} | {facts['holds']} | {count or ''} |"
    yield ""
    for number, facts in known.items():
        if found := [proof for proof in marks if proof.of == number]:
            yield from of_requirement(number, facts["fault"], found)


def sentence(test: str) -> str:
    """A test's name as the sentence that it is."""
    return test.removeprefix("test_").replace("_", " ")
