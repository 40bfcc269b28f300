"""Keeps what a handler's own tasks raise away from the event loop.

asyncio lets SystemExit and KeyboardInterrupt out of a task through the loop itself, which would end the daemon. So
tasks that are created inside a job run in a wrapper that turns them into an ordinary exception.
"""

import asyncio
from collections.abc import Coroutine, Generator
from contextvars import ContextVar
from typing import Any

from jobsd.engine.executors.threads import Pools

in_job: ContextVar[bool] = ContextVar("in_job", default=False)


class LeftTheJob(Exception):
    """A task of a job raised what would have ended the daemon; the original is the cause."""


class Contained(Coroutine[Any, Any, Any]):
    """A coroutine that raises no SystemExit or KeyboardInterrupt."""

    def __init__(self, inner: Coroutine[Any, Any, Any]) -> None:
        self._inner = inner
        self.__name__ = getattr(inner, "__name__", "task")
        self.__qualname__ = getattr(inner, "__qualname__", self.__name__)

    def send(self, value: Any) -> Any:
        try:
            return self._inner.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise LeftTheJob(f"{type(error).__name__}: {error}") from error

    def throw(self, *error: Any) -> Any:
        try:
            return self._inner.throw(*error)
        except (SystemExit, KeyboardInterrupt) as left:
            raise LeftTheJob(f"{type(left).__name__}: {left}") from left

    def close(self) -> None:
        self._inner.close()

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._inner.__await__()

    @property
    def cr_frame(self) -> Any:  # so that a task's stack can be shown
        return getattr(self._inner, "cr_frame", None)

    @property
    def cr_running(self) -> bool:
        return bool(getattr(self._inner, "cr_running", False))

    @property
    def cr_code(self) -> Any:
        return getattr(self._inner, "cr_code", None)

    @property
    def cr_await(self) -> Any:
        return getattr(self._inner, "cr_await", None)


def contain_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """From now on, tasks and threads that jobs create in `loop` are contained. Does nothing when it is so already."""
    if loop.get_task_factory() is None:
        loop.set_task_factory(_task)
        loop.set_default_executor(Pools())


def _task(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> "asyncio.Task[Any]":
    contained = in_job.get() and asyncio.iscoroutine(coro)
    return asyncio.Task(Contained(coro) if contained else coro, loop=loop, **options)
