"""The keys that a configuration may have: a JSON Schema for editors, made from the models, and answers out of it.

`jobsd config schema`, `jobsd explain`, the reference in docs/ and "allowed keys" in errors all read from here.
"""

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from jobsd.domain.duration import format_duration
from jobsd.domain.job import KINDS, NAME, JobDefinition
from jobsd.registry.positions import Path, dotted
from jobsd.registry.settings import Settings
from jobsd.registry.variables import SECRETS

Node = Mapping[str, Any]
SECRET = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "properties": {"file": {"type": "string"}, "credential": {"type": "string"}},
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        },
    ]
}


class Plain(GenerateJsonSchema):
    """Defaults as people write them; no titles made up from names."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


class Key(NamedTuple):
    """One line of the reference. `default` is JSON-like, `...` when the key must be given."""

    path: str  # jobs.NAME.schedule.cron
    kind: str  # what its value is, in words
    default: Any
    description: str


@cache
def document() -> dict[str, Any]:
    """The JSON Schema (2020-12) of jobsd.toml and of the files that it includes."""
    definitions: dict[str, Any] = {}
    settings, job = _model(Settings, definitions), _model(JobDefinition, definitions)
    del job["properties"]["name"]
    job["required"] = [key for key in job.get("required", ()) if key != "name"]
    definitions["Job"] = {**job, "oneOf": [{"required": [kind]} for kind in KINDS]}
    definitions["JobOverride"] = {**deepcopy(job), "required": []}  # an environment says only what differs
    tables: dict[str, Any] = settings["properties"]
    environment = {**tables, "jobs": _named("#/$defs/JobOverride")}
    root = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jobsd.toml",
        "description": "The daemon's settings and its jobs.",
        "type": "object",
        "properties": {
            "include": {
                "type": "array",
                "items": {"type": "string"},
                "description": "files and patterns of job files, counted from this file's folder",
            },
            **tables,
            "jobs": {**_named("#/$defs/Job"), "description": "the jobs, by name"},
            "environments": {
                "type": "object",
                "description": "what differs where JOBSD_ENVIRONMENT names it",
                "additionalProperties": {
                    "type": "object",
                    "properties": environment,
                    "additionalProperties": False,
                },
            },
        },
        "additionalProperties": False,
        "$defs": definitions,
    }
    for path in SECRETS:
        _allow_secret(root, path)
    return root


def _model(model: type[BaseModel], definitions: dict[str, Any]) -> dict[str, Any]:
    found = model.model_json_schema(schema_generator=Plain)
    definitions.update(found.pop("$defs", {}))
    return found


def _named(ref: str) -> dict[str, Any]:
    return {"type": "object", "propertyNames": {"pattern": f"^{NAME.pattern}$"}, "additionalProperties": {"$ref": ref}}


def _allow_secret(root: dict[str, Any], path: Path) -> None:
    """Let `{ file = … }` and `{ credential = … }` stand where a secret may come from one."""
    for name in ("Job", "JobOverride") if path[0] == "jobs" else ("",):
        at: Any = root["$defs"][name] if name else root
        for step in path[2:] if name else path:
            at = _inner(_resolved(at, root), str(step))
        for key in ("type", "format", "writeOnly"):
            at.pop(key, None)
        at.update(SECRET)


def _inner(node: Node, step: str) -> Any:
    return node["additionalProperties"] if step == "*" else node["properties"][step]


def _resolved(node: Node, root: Node | None = None) -> Node:
    """`node` with a reference followed, and with the one form that is not null."""
    for option in node.get("anyOf", ()):
        if "$ref" in option:
            return _resolved({**{k: v for k, v in node.items() if k != "anyOf"}, **option}, root)
    if "$ref" not in node:
        return node
    target = (root or document())["$defs"][node["$ref"].rpartition("/")[2]]
    return {**target, **{key: value for key, value in node.items() if key != "$ref"}}


def at(path: Path) -> Node | None:
    """The schema of the key or table at `path`, a job's or environment's name being any. None for no such key."""
    node: Node = document()
    for step in path:
        properties, others = node.get("properties", {}), node.get("additionalProperties")
        if isinstance(step, int):
            inner = _items(node)
        elif step in properties:
            inner = properties[step]
        else:
            inner = others if isinstance(others, Mapping) and others else None
        if inner is None:
            return None
        node = _resolved(inner)
    return node


def _items(node: Node) -> Node | None:
    forms = [node, *node.get("anyOf", ())]
    return next((form["items"] for form in forms if isinstance(form.get("items"), Mapping)), None)


def allowed(path: Path) -> list[str]:
    """The keys that the table at `path` may have; empty when it is free."""
    node = at(path)
    return list(node.get("properties", ())) if node else []


def every_key(path: Path = ()) -> Iterator[Key]:
    """Every key below `path`, tables before what is in them, environments left out. NAME stands for any name."""
    node = at(path) or {}
    for name, inner in node.get("properties", {}).items():
        if (*path, name) != ("environments",):
            yield key_of((*path, name), inner, name in node.get("required", ()))
            yield from every_key((*path, name))
    others = node.get("additionalProperties")
    if isinstance(others, Mapping) and _resolved(others).get("properties"):
        yield from every_key((*path, "NAME"))
    if path and (items := _items(node)) and _resolved(items).get("properties"):
        yield from every_key((*path, 0))


def generic(key: str) -> str:
    """`key` as `every_key` has it: without its environment, NAME for a name, [] for a number."""
    key = re.sub(r"^environments\.[^.]*\.", "", re.sub(r"\[\d*\]", "[]", key))
    return re.sub(r"^(jobs|alerts\.channels)\.[^.]+", r"\1.NAME", key)


def is_directly_in(key: str, table: str) -> bool:
    """Whether `key` is one of the table's own keys. A table of names has those of what it names."""
    if not table:
        return "." not in key
    rest = key.removeprefix(table).removeprefix("[]").removeprefix(".NAME")
    return key.startswith(table) and rest.startswith(".") and "." not in rest[1:]


def key_of(path: Path, node: Node, required: bool = False) -> Key:
    whole = _resolved(node)
    default = ... if required else node.get("default", whole.get("default"))
    text = dotted(path).replace("[0]", "[]")
    return Key(text, kind(node), default, str(node.get("description", whole.get("description", ""))))


def kind(node: Node) -> str:
    """What a value of `node` is, in words."""
    node = _resolved(node)
    if options := node.get("enum"):
        return "one of " + ", ".join(f'"{option}"' for option in options)
    if title := node.get("title") if node.get("title") in ("duration", "size", "priority") else None:
        return str(title)
    if node.get("anyOf") == SECRET["anyOf"]:
        return 'text, { file = "PATH" } or { credential = "NAME" }'
    if "anyOf" in node:
        forms = dict.fromkeys(kind(form) for form in node["anyOf"] if form.get("type") != "null")
        return " or ".join(forms)
    return _plain_kind(node)


def _plain_kind(node: Node) -> str:
    match node.get("type"):
        case "string":
            return "date and time" if node.get("format") == "date-time" else "text"
        case "array":
            return f"list of {kind(node['items'])}" if node.get("items") else "list"
        case "integer":
            low, high = node.get("minimum"), node.get("maximum")
            return f"whole number, {low} to {high}" if high is not None else "whole number"
        case "boolean":
            return "true or false"
        case "number":
            return "number"
    return "table"
