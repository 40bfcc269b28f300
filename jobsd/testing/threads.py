"""Plain functions in a test: in a thread of this process, so that debugger, coverage and patches reach them."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, fields
from functools import wraps
from typing import Any, TypeVar

from jobsd.engine.executors.context import AsyncReport, Context, PlainContext, Who
from jobsd.engine.executors.pipeline import Progress
from jobsd.engine.executors.plain import PlainTransaction
from jobsd.handlers import Handler

T = TypeVar("T")


def in_thread(handler: Handler) -> Handler:
    """The same handler to be awaited. It sees a `SyncJobContext` as it does in its own process."""

    @wraps(handler.call)
    async def call(context: Context, *params: Any) -> Any:
        return await asyncio.to_thread(handler.call, _plain(context), *params)

    return Handler(call, handler.model, is_async=True)


def _plain(context: Context) -> PlainContext:
    loop = OnLoop(asyncio.get_running_loop())
    return PlainContext(
        **{field.name: getattr(context, field.name) for field in fields(Who)},
        report=Bridge(context.report, loop),
        open_transaction=lambda: PlainTransaction(context.transaction, loop),
    )


@dataclass(frozen=True, slots=True)
class OnLoop:
    """Has the loop that the test runs on do things, and waits for them."""

    loop: asyncio.AbstractEventLoop

    def run(self, coro: Coroutine[Any, Any, T], /) -> T:
        return asyncio.run_coroutine_threadsafe(coro, self.loop).result()

    def close(self) -> None:
        """The loop goes on."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """A plain function's reports, told on the loop."""

    report: AsyncReport
    loop: OnLoop

    def progress(self, told: Progress) -> None:
        self.loop.run(self.report.progress(told))

    def heartbeat(self) -> None:
        self.loop.run(self.report.heartbeat())

    def message(self, level: str, text: str) -> None:
        self.loop.run(self.report.message(level, text))
