"""From names to handlers and their parameter models, checked at load. What calls a handler is `engine.executors`."""

from jobsd.handlers.find import Handler, HandlerError, named, resolve
from jobsd.handlers.fit import check_handlers
from jobsd.handlers.installed import packs

__all__ = ["Handler", "HandlerError", "check_handlers", "named", "packs", "resolve"]
