"""What a pack declares must fit together, and says where it does not as soon as it is imported."""

from typing import Any

import pytest
from pydantic import BaseModel

from jobsd.sdk import Action, ActionContext, Column, Filter, Fit, Pack, View


class Which(BaseModel):
    row: int


async def nothing(ctx: ActionContext, params: Which) -> None: ...


DO = Action("do", "Do it", Which, nothing)


def view(**changes: Any) -> View:
    columns = (Column("id", "integer"), Column("name"), Column("share", "number"))
    return View(**{"name": "rows", "title": "Rows", "sql": "SELECT 1", "columns": columns, "key": ("id",)} | changes)


def test_a_view_and_an_action_that_fit_make_a_pack() -> None:
    pack = Pack("some", "Some", (view(actions=(Fit("do", {"row": "id"}),)),), (DO,))

    assert [each.name for each in (*pack.views, *pack.actions)] == ["rows", "do"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "All Rows"}, 'expected a lower-case word of at most 50 characters, got "All Rows"'),
        ({"columns": (Column("id"), Column('x"; DROP')), "key": ("id",)}, "expected a lower-case word"),
        ({"columns": (Column("id"), Column("id"))}, '"id" is there twice'),
        ({"filters": (Filter("name"), Filter("name"))}, '"name" is there twice'),
        ({"filters": (Filter("limit", "name"),)}, 'a filter cannot be named "limit"'),
        ({"filters": (Filter("nam"),)}, 'there is no column "nam"'),
        ({"key": ()}, "its key is empty"),
        ({"key": ("nr",)}, 'there is no column "nr"'),
        ({"key": ("share",)}, '"share" cannot be of a key: it is number'),
        ({"actions": (Fit("do", {"row": "nr"}),)}, 'there is no column "nr"'),
        ({"actions": (Fit("do", {"row": "id"}, when="name"),)}, 'column "name" is not boolean'),
    ],
)
def test_a_view_says_what_of_it_does_not_fit(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=r'^view "') as refused:
        view(**changes)

    assert complaint in str(refused.value)


@pytest.mark.parametrize(
    ("views", "actions", "complaint"),
    [
        ((view(), view()), (), '"rows" is there twice'),
        ((), (DO, DO), '"do" is there twice'),
        ((view(actions=(Fit("undo", {}),)),), (DO,), 'view "rows" names the action "undo", which it does not have'),
        ((), (Action("do", "Do it", Which, print),), 'the handler of action "do" is not an async function'),
        (
            (view(actions=(Fit("do", {"line": "id"}),)),),
            (DO,),
            'view "rows" fills in "line", which action "do" does not take',
        ),
    ],
)
def test_a_pack_says_what_of_it_does_not_fit(
    views: tuple[View, ...], actions: tuple[Action, ...], complaint: str
) -> None:
    with pytest.raises(ValueError, match='pack "some"') as refused:
        Pack("some", "Some", views, actions)

    assert str(refused.value) == f'pack "some": {complaint}'
