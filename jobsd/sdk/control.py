"""How a job steers what jobsd does with it."""

from collections.abc import Callable
from typing import Any, TypeVar

Handler = TypeVar("Handler", bound=Callable[..., Any])


def dry_run_aware(handler: Handler) -> Handler:
    """Say of a handler that it honours `ctx.dry_run`: it is called in a dry run too, and says what it would do."""
    handler.honours_dry_run = True  # type: ignore[attr-defined]  # a mark on the function, as functools.wraps keeps it
    return handler
