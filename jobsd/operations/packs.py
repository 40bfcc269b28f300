"""What packs declare: views to be read, actions to be done. The core knows no pack; `handlers` finds them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python

from jobsd.domain.errors import Exit, did_you_mean, problem
from jobsd.operations import parameters
from jobsd.operations.pack_views import Acted, PackView, Rows, column_view, fit_view, pack_view
from jobsd.operations.pages import Page
from jobsd.operations.runs import Words
from jobsd.operations.view_query import cursor_after, filters_of, key_of
from jobsd.sdk import Action, Connection, Pack, Refuse, View
from jobsd.store import packs as stored
from jobsd.store.db import Db

ACTION_S = 30.0  # for all of an action; its transaction may hold up others
Named = TypeVar("Named", Pack, View, Action)


class ActRequest(BaseModel):
    """An action that is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    params: dict[str, Any] = {}
    reason: Words | None = Field(None, description="why, for the audit")


@dataclass(frozen=True, slots=True)
class Acting:
    """The `ActionContext` that a handler gets."""

    actor: str
    reason: str | None
    connection: Connection


def listing(packs: Sequence[Pack]) -> Page[PackView]:
    """Every pack with its views and actions."""
    return Page(items=[pack_view(pack) for pack in packs])


def view_of(packs: Sequence[Pack], pack: str, name: str) -> View:
    """Raises E0521 with the nearest name there is, as does `action_of`."""
    return _named(_named(packs, pack, "pack").views, name, f'view of "{pack}"')


def action_of(packs: Sequence[Pack], pack: str, name: str) -> Action:
    return _named(_named(packs, pack, "pack").actions, name, f'action of "{pack}"')


async def rows(db: Db, view: View, asked: Mapping[str, str], limit: int, cursor: str | None = None) -> Rows:
    """One page of a view. `asked` holds values of its filters.

    Raises E0507 for a filter that it does not have, a value that does not fit, a cursor of another list.
    """
    wanted = stored.Wanted(filters_of(view, asked), key_of(view, cursor) if cursor else ())
    found = await stored.rows(db, view, wanted, limit + 1)
    items = [{column.name: row[column.name] for column in view.columns} for row in found[:limit]]
    return Rows(
        items=items,
        cursor=cursor_after(view, items[-1]) if len(found) > limit else None,
        title=view.title,
        columns=[column_view(column) for column in view.columns],
        actions=[fit_view(fit) for fit in view.actions],
    )


async def act(db: Db, pack: str, action: Action, request: ActRequest, actor: str) -> Acted:
    """Do it, all or nothing, with its audit entry in the same transaction.

    Raises E0504 (parameters that do not fit, all at once), E0522 (its rule, or the database's, does not allow it),
    E0511 (it took too long), `Unavailable` when nobody knows whether the commit is done: the audit then tells.
    """
    parameters.check_model(action.params, request.params, request.params)
    params = action.params.model_validate(request.params)
    name = f"{pack}.{action.name}"
    detail = {"params": params.model_dump(mode="json")}
    try:
        async with stored.acting(db, name, actor, request.reason, detail) as connection:
            result = await _done(name, action, Acting(actor, request.reason, connection), params)
    except (Refuse, stored.RuleBroken) as refused:
        raise problem("E0522", f"{name}: {refused}", exit_code=Exit.CONFLICT) from refused
    return Acted(action=name, result=result)


async def _done(name: str, action: Action, acting: Acting, params: BaseModel) -> Any:
    """Its answer as JSON, found fit to be sent before anything is committed. Raises E0511 and what the pack raises."""
    try:
        async with asyncio.timeout(ACTION_S) as limit:
            answer = await action.handler(acting, params)
    except TimeoutError as late:
        if not limit.expired():
            raise
        raise problem("E0511", f"{name} did not end within {ACTION_S:g} s; nothing of it is done") from late
    except (SystemExit, KeyboardInterrupt) as left:  # asyncio would let these end the daemon
        raise RuntimeError(f"it raised {type(left).__name__}: {left}") from left
    return orjson.loads(orjson.dumps(to_jsonable_python(answer)))


def _named(there: Sequence[Named], name: str, what: str) -> Named:
    known = {each.name: each for each in there}
    if name in known:
        return known[name]
    near = did_you_mean(name, known)
    hint = f'did you mean "{near}"?' if near else f"there is: {', '.join(known) or 'none'}"
    raise problem("E0521", f'there is no {what} named "{name[:100]}"', hint, exit_code=Exit.NOT_FOUND)
