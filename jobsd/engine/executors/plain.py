"""`ctx.transaction()` for plain functions: the async one, driven call by call from the function's own thread."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol, TypeVar

from jobsd.sdk import Transaction

T = TypeVar("T")


class Runner(Protocol):
    """What drives the calls: `asyncio.Runner`, unless there is a loop already that the connection belongs to."""

    def run(self, coro: Coroutine[Any, Any, T], /) -> T: ...
    def close(self) -> None: ...


class PlainTransaction:
    """Between two calls nothing of it runs, and the thread that entered it is the one to use it."""

    def __init__(
        self, open_transaction: Callable[[], AbstractAsyncContextManager[Transaction]], runner: Runner | None = None
    ) -> None:
        self._block = open_transaction()
        self._runner = runner or asyncio.Runner()
        self._tx: Transaction

    def __enter__(self) -> "PlainTransaction":
        try:
            self._tx = self._do(self._block.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        try:
            return self._do(self._block.__aexit__(kind, error, trace))
        finally:
            self._runner.close()

    @property
    def result(self) -> Any:
        return self._tx.result

    @result.setter
    def result(self, value: Any) -> None:
        self._tx.result = value

    def execute(self, query: str, *args: Any) -> str:
        return self._do(self._tx.execute(query, *args))

    def executemany(self, command: str, args: Iterable[Sequence[Any]]) -> None:
        self._do(self._tx.executemany(command, args))

    def fetch(self, query: str, *args: Any) -> list[Any]:
        return self._do(self._tx.fetch(query, *args))

    def fetchrow(self, query: str, *args: Any) -> Any:
        return self._do(self._tx.fetchrow(query, *args))

    def fetchval(self, query: str, *args: Any, column: int = 0) -> Any:
        return self._do(self._tx.fetchval(query, *args, column=column))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)
