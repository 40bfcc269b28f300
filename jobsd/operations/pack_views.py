"""Packs, their views and actions as the API answers them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, Field

from jobsd.operations.pages import Page
from jobsd.sdk import Column, Filter, Fit, Pack, View


class ColumnView(BaseModel):
    name: str
    kind: str = Field(description="text, integer, number, boolean, date, instant or json")
    title: str


class FilterView(BaseModel):
    """A name that the view's query takes."""

    name: str
    column: str
    kind: str
    compare: str = Field(description="is, at_least or at_most")
    about: str


class FitView(BaseModel):
    """An action that fits rows of a view."""

    action: str
    params: Mapping[str, str] = Field(description="parameter -> the column that fills it in")
    when: str | None = Field(description="the boolean column that says which rows it fits; null: all of them")


class ViewView(BaseModel):
    """What can be looked at."""

    name: str
    title: str
    columns: list[ColumnView]
    filters: list[FilterView]
    actions: list[FitView]


class ActionView(BaseModel):
    """What can be done."""

    name: str
    title: str
    scope: str = Field(description="the least that a token needs")
    params: Mapping[str, Any] = Field(description="JSON Schema of its parameters")


class PackView(BaseModel):
    name: str
    title: str
    views: list[ViewView]
    actions: list[ActionView]


class Rows(Page[Mapping[str, Any]]):
    """One page of a view, and how to show it."""

    title: str
    columns: list[ColumnView]
    actions: list[FitView]


class Acted(BaseModel):
    """An action that is done."""

    action: str = Field(description="PACK.ACTION")
    result: Any = None


def pack_view(pack: Pack) -> PackView:
    return PackView(
        name=pack.name,
        title=pack.title,
        views=[_view(view) for view in pack.views],
        actions=[
            ActionView(name=each.name, title=each.title, scope=each.scope, params=each.params.model_json_schema())
            for each in pack.actions
        ],
    )


def column_view(column: Column) -> ColumnView:
    return ColumnView(name=column.name, kind=column.kind, title=column.title or column.name.replace("_", " "))


def fit_view(fit: Fit) -> FitView:
    return FitView(action=fit.action, params=dict(fit.params), when=fit.when)


def _view(view: View) -> ViewView:
    return ViewView(
        name=view.name,
        title=view.title,
        columns=[column_view(column) for column in view.columns],
        filters=[_filter(view, each) for each in view.filters],
        actions=[fit_view(fit) for fit in view.actions],
    )


def _filter(view: View, one: Filter) -> FilterView:
    return FilterView(name=one.name, column=one.of, kind=view.kind_of(one.of), compare=one.compare, about=one.about)
