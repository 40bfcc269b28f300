"""How a job steers what jobsd does with its run, and what it is told when it asks for too much.

A steering exception counts wherever it comes out of the job: alone, inside an exception group, or as the cause that
another one was raised `from`. Anything else that a job raises is a failure.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])
LONGEST_DELAY = timedelta(days=366)


class Cancel(Exception):
    """Nobody needs this run any more: it ends as cancelled, with this reason. No alert, no retry."""


class GiveUp(Exception):
    """Trying again would not help: the run has failed, whatever retries its job declares."""


class RetryLater(Exception):
    """Not now: the run is queued again and uses none of its declared retries.

    `delay` is a timedelta, or seconds. Raises `ValueError` for less than 0 or more than 366 days.
    """

    def __init__(self, delay: timedelta | float, reason: str = "") -> None:
        if not isinstance(delay, timedelta):
            if not 0 <= delay <= LONGEST_DELAY.total_seconds():  # also of what is no number
                raise ValueError(f"expected a delay of 0 seconds to 366 days, got {delay:g} s")
            delay = timedelta(seconds=delay)
        if not timedelta(0) <= delay <= LONGEST_DELAY:
            raise ValueError(f"expected a delay of 0 seconds to 366 days, got {delay}")
        super().__init__(reason)
        self.delay = delay
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.delay, self.reason))


class ProgressRefused(RuntimeError):
    """This job shows no progress (E0516): it is atomic, or says `progress = false`. A heartbeat is always taken."""


class FenceLost(RuntimeError):
    """The run has moved on (E0517): another attempt has it, or it is over. Nothing of the transaction is kept."""


def dry_run_aware(handler: Handler) -> Handler:
    """Say of a handler that it honours `ctx.dry_run`: it is called in a dry run too, and says what it would do."""
    handler.honours_dry_run = True  # type: ignore[attr-defined]  # a mark on the function, as functools.wraps keeps it
    return handler
