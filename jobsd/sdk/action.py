"""An action: what an operator may do with a pack's rows. One transaction, which also writes its audit entry.

The rules that an action keeps stand in the database as well; what that refuses is told as the action's refusal.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import BaseModel

from jobsd.sdk.context import Connection

Scope = Literal["trigger", "operate", "admin"]


class Refuse(Exception):
    """Raised by an action that its own rule does not allow: nothing of it is done, and the text is told."""


class ActionContext(Protocol):
    """Who acts, why, and the transaction that it happens in."""

    @property
    def actor(self) -> str: ...
    @property
    def reason(self) -> str | None: ...
    @property
    def connection(self) -> Connection:
        """Inside the action's transaction, which is committed when the handler returns and undone when it raises."""


@dataclass(frozen=True, slots=True)
class Action:
    """`handler(ctx, params)` gets an instance of `params`; what it returns is the answer and must fit into JSON.

    `scope` is the least that a token needs for it.
    """

    name: str
    title: str
    params: type[BaseModel]
    handler: Callable[[ActionContext, Any], Awaitable[Any]]
    scope: Scope = "operate"
