"""A handler is found by its name and called as it is written; whatever its import raises is told, not thrown."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jobsd.domain.job import JobDefinition
from jobsd.handlers import HandlerError, named, packs, resolve

MODULE = """
from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Mapping

from pydantic import BaseModel

from jobsd.sdk import dry_run_aware

if TYPE_CHECKING:
    from jobsd.sdk import JobContext


class Params(BaseModel):
    region: str = "eu"


async def nightly(ctx: JobContext, params: Params) -> str:
    return f"{ctx.name} {params.region}"

async def weekly(ctx) -> str:
    return f"{ctx.name} weekly"

def nothing():
    return "nothing"

def plain(ctx, params: Mapping[str, Any]):
    return f"{ctx.name} {params['region']}"

def bare(ctx, params):
    return f"{ctx.name} {params['region']}"

def with_default(ctx, params=None):
    return f"{ctx.name} {params}"

def decorated(function):
    @functools.wraps(function)
    async def inner(*args):
        return "inner " + await function(*args)
    return inner

@decorated
@dry_run_aware
async def wrapped(ctx: JobContext, params: Params) -> str:
    return params.region

class Called:
    async def __call__(self, ctx, params: Params):
        return params.region

called = Called()
number = 5

def three(ctx, params, more): ...
def keyword(ctx, *, more): ...
def generator(ctx): yield 1
async def async_generator(ctx): yield 1
def wrong_params(ctx, params: int): ...
def unknown_params(ctx, params: Nowhere): ...
"""


@pytest.fixture(autouse=True)
def myapp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A team's own package, as it would be installed beside jobsd."""
    (tmp_path / "myapp_of_tests").mkdir()
    (tmp_path / "myapp_of_tests/__init__.py").touch()
    (tmp_path / "myapp_of_tests/reports.py").write_text(MODULE)
    (tmp_path / "myapp_of_tests/broken.py").write_text("1 / 0\n")
    (tmp_path / "myapp_of_tests/leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "myapp_of_tests/lacks.py").write_text("import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    named.cache_clear()


CTX = SimpleNamespace(name="ctx", params={"region": "us"})


async def answer(name: str) -> Any:
    """What the handler returns when it is called as the engine does."""
    handler = named(f"myapp_of_tests.reports:{name}")
    args = (CTX,) if handler.model is None else (CTX, handler.model.model_validate(CTX.params))
    result = handler.call(*args)
    return await result if handler.is_async else result


@pytest.mark.parametrize(
    ("name", "returned", "is_async"),
    [
        ("nightly", "ctx us", True),
        ("weekly", "ctx weekly", True),
        ("nothing", "nothing", False),
        ("plain", "ctx us", False),
        ("bare", "ctx us", False),
        ("with_default", "ctx None", False),
        ("wrapped", "inner us", True),
        ("called", "us", True),
    ],
)
@pytest.mark.req("C1", "C2")
async def test_a_handler_is_called_as_it_is_written(name: str, returned: str, is_async: bool) -> None:
    assert named(f"myapp_of_tests.reports:{name}").is_async is is_async
    assert await answer(name) == returned


def test_what_marks_a_function_stays_on_its_handler() -> None:
    assert named("myapp_of_tests.reports:wrapped").call.honours_dry_run  # type: ignore[attr-defined]


@pytest.mark.req("C1")
@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("reports", "E0231", 'handler: expected "module:function", got "reports"'),
        (
            "myapp_of_tests.nowhere:nightly",
            "E0231",
            'handler "myapp_of_tests.nowhere:nightly": cannot import myapp_of_tests.nowhere: '
            "ModuleNotFoundError: No module named 'myapp_of_tests.nowhere'",
        ),
        (
            "myapp_of_tests.broken:nightly",
            "E0231",
            'handler "myapp_of_tests.broken:nightly": cannot import myapp_of_tests.broken: '
            "ZeroDivisionError: division by zero",
        ),
        (
            "myapp_of_tests.leaves:nightly",
            "E0231",
            'handler "myapp_of_tests.leaves:nightly": cannot import myapp_of_tests.leaves: SystemExit: 3',
        ),
        (
            "myapp_of_tests.reports:nigthly",
            "E0231",
            'handler "myapp_of_tests.reports:nigthly" not found; myapp_of_tests.reports has: nightly, weekly, nothing, '
            'plain, bare, with_default, decorated, wrapped, …. did you mean "nightly"?',
        ),
        (
            "myapp_of_tests:nightly",
            "E0231",
            'handler "myapp_of_tests:nightly" not found; myapp_of_tests has: no functions',
        ),
        (
            "myapp_of_tests.reports:number",
            "E0233",
            'handler "myapp_of_tests.reports:number" is not a function but an int',
        ),
        (
            "myapp_of_tests.reports:Params",
            "E0233",
            'handler "myapp_of_tests.reports:Params" is not a function but a class',
        ),
        (
            "myapp_of_tests.reports:three",
            "E0233",
            'handler "myapp_of_tests.reports:three" takes (ctx, params, more); expected (ctx, params), (ctx) or ()',
        ),
        (
            "myapp_of_tests.reports:keyword",
            "E0233",
            'handler "myapp_of_tests.reports:keyword" takes (ctx, *, more); expected (ctx, params), (ctx) or ()',
        ),
        (
            "myapp_of_tests.reports:generator",
            "E0233",
            'handler "myapp_of_tests.reports:generator" is a generator: nothing would run it to its end',
        ),
        (
            "myapp_of_tests.reports:async_generator",
            "E0233",
            'handler "myapp_of_tests.reports:async_generator" is a generator: nothing would run it to its end',
        ),
        (
            "myapp_of_tests.reports:wrong_params",
            "E0233",
            'handler "myapp_of_tests.reports:wrong_params": params must be a pydantic model or a mapping, not int',
        ),
        (
            "myapp_of_tests.reports:unknown_params",
            "E0233",
            'handler "myapp_of_tests.reports:unknown_params": annotation of params: '
            "NameError: name 'Nowhere' is not defined",
        ),
    ],
)
def test_a_handler_that_cannot_be_used_is_told_in_a_line(name: str, code: str, said: str) -> None:
    with pytest.raises(HandlerError) as refused:
        named(name)

    assert (refused.value.code, str(refused.value)) == (code, said)


def test_only_a_module_that_is_not_installed_is_told_to_be_installed() -> None:
    with pytest.raises(HandlerError) as own:
        named("myapp_of_tests.nowhere:f")
    with pytest.raises(HandlerError) as other:
        named("myapp_of_tests.lacks:f")

    assert own.value.hints == ("install it beside jobsd, or put its folder in PYTHONPATH",)
    assert other.value.hints == ()
    assert str(other.value).endswith("ModuleNotFoundError: No module named 'not_installed_anywhere'")


def test_a_job_of_another_kind_has_no_handler() -> None:
    assert resolve(JobDefinition(name="a", command=("true",))) is None
    assert resolve(JobDefinition(name="a", handler="myapp_of_tests.nowhere:f")) is None


def test_the_installed_packs_are_found() -> None:
    assert "analytics" in {pack.name for pack in packs()}
