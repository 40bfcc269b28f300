"""Threads that a handler starts through the loop (`asyncio.to_thread`): cancelled, its task ends, the thread goes on.

So an execution is over only when the last of its threads is, and its lock is kept as long (P3). Jobs' threads have a
pool of their own, so that they never keep the daemon's waiting.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

MOST = 64  # at once, of all jobs together
_of_job: ContextVar["Threads | None"] = ContextVar("threads_of_job", default=None)


class Threads:
    """Those of one execution. Make it in the task that calls the handler, before it does."""

    def __init__(self) -> None:
        self.running: set[Future[Any]] = set()

    def watch(self) -> None:
        """From here on, in this task and in those that it creates."""
        _of_job.set(self)

    async def over(self) -> None:
        """Wait for all of them. What they raise was for the handler to hear."""
        while running := [asyncio.wrap_future(each) for each in list(self.running)]:
            for ended in (await asyncio.wait(running))[0]:
                if not ended.cancelled():
                    ended.exception()


class Pools(ThreadPoolExecutor):
    """A loop's default executor: the daemon's own pool, with another one for what jobs submit."""

    def __init__(self) -> None:
        super().__init__(thread_name_prefix="jobsd")
        self._jobs = ThreadPoolExecutor(MOST, thread_name_prefix="job")

    def submit(self, work: Callable[..., Any], /, *args: Any, **named: Any) -> Future[Any]:
        threads = _of_job.get()
        if threads is None:
            return super().submit(work, *args, **named)
        future = self._jobs.submit(work, *args, **named)
        threads.running.add(future)
        future.add_done_callback(threads.running.discard)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        super().shutdown(wait, cancel_futures=cancel_futures)
        self._jobs.shutdown(wait, cancel_futures=cancel_futures)
