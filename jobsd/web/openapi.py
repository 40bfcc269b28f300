"""The API told in OpenAPI 3.1: made of the table of routes, what each handler says of itself, and the models."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Protocol

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from jobsd import __version__
from jobsd.domain.codes import CODES
from jobsd.web.contract import Contract, contract_of
from jobsd.web.errors import STATUS
from jobsd.web.etag import TAG

Json = dict[str, Any]
REF = "#/components/schemas/{model}"
PROBLEM = "application/problem+json"
EVERY = ("E0410", "E0412", "E0510", "E0511", "E0512")  # codes that each route may answer
OF_BODIES = (400, 408, 413, 415, 422)
MISDIRECTED = 421
PARTS: Mapping[str, tuple[str, Json, tuple[str, ...]]] = {  # of addresses: what is meant, its form, what it may answer
    "job": ("a job's name", {"type": "string"}, ("E0501",)),
    "run": ("a run's id", {"type": "integer", "minimum": 1, "maximum": 10**18 - 1}, ("E0503",)),
    "token": ("a token's name", {"type": "string"}, ("E0523",)),
    "pack": ("a pack's name", {"type": "string"}, ("E0521",)),
    "view": ("the name of one of its views, or of its actions", {"type": "string"}, ()),
    "action": ("the name of one of its actions", {"type": "string"}, ()),
}
HEADERS: Mapping[str, tuple[str, Json, tuple[str, ...]]] = {
    "Idempotency-Key": ("the same one never makes a second run", {"type": "string", "maxLength": 200}, ()),
    "If-Match": ("the ETag that the run had when it was read", {"type": "string", "pattern": TAG}, ("E0413",)),
    "Jobsd-Fence": ("of the attempt that reports", {"type": "integer"}, ("E0517",)),
    "Last-Event-ID": ("the last event that was seen", {"type": "string"}, ()),
}


class Routed(Protocol):
    """A row of the table of routes."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def handle(self) -> Callable[..., Any]: ...
    @property
    def scope(self) -> str: ...


class Mistake(BaseModel):
    """One of the things that are wrong."""

    model_config = ConfigDict(extra="allow")

    code: str
    detail: str
    pointer: str = Field("", description="where in the request: a JSON pointer into the body, or the query's name")
    hints: list[str] = []


class ProblemDocument(BaseModel):
    """A refusal (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="urn:jobsd:error:CODE")
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(pattern=r"^E\d{4}$", description="the command line's too: jobsd explain CODE")
    hint: str = Field(description="ways out, one a line")
    errors: list[Mistake] = Field(description="all that is wrong, at once")


@lru_cache(maxsize=4)
def rendered(routes: Sequence[Routed], open_reading: bool) -> bytes:
    """The description as JSON. `open_reading`: this listener lets everybody read."""
    return orjson.dumps(described(routes, open_reading))


def described(routes: Sequence[Routed], open_reading: bool) -> Json:
    """The description. Raises `LookupError` for a handler that does not say what it answers."""
    contracts = {route: contract_of(route.handle) for route in routes}
    names, schemas = _schemas(contracts.values())
    paths: dict[str, Json] = {}
    shapes: dict[str, str] = {}  # two addresses that differ in their parts' names are one
    for route, contract in contracts.items():
        address = shapes.setdefault(_shape(route.path), route.path)
        parameters = [*_in_path(address), *_in_headers(contract), *_in_query(contract, schemas)]
        operation = {
            "operationId": _name_of(route),
            "tags": [_noun_of(route.path)],
            "summary": re.split(r"[.:](?:\s|$)", " ".join((route.handle.__doc__ or "").split()), maxsplit=1)[0],
            "description": " ".join((route.handle.__doc__ or "").split()),
            "x-jobsd-scope": route.scope,
            "security": _security(route, open_reading),
            "responses": _responses(route, contract, names),
        }
        if parameters:
            operation["parameters"] = parameters
        if contract.body is not None:
            schema = {"schema": names[(contract.body, "validation")]}
            operation["requestBody"] = {"required": _needs_body(contract.body), "content": {"application/json": schema}}
        paths.setdefault(address, {})[route.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "jobsd", "version": __version__, "description": "Background jobs on PostgreSQL."},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _shape(path: str) -> str:
    return re.sub(r"{\w+}", "{}", path)


def _schemas(contracts: Iterable[Contract]) -> tuple[Mapping[Any, Json], Json]:
    """Where the schema of each model is, as answered and as asked, and all of them."""
    pairs: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(ProblemDocument, "serialization"): None}
    for contract in contracts:
        if not isinstance(contract.answer, str):
            pairs[(contract.answer, "serialization")] = None
        if contract.body is not None:
            pairs[(contract.body, "validation")] = None
    names, schemas = models_json_schema(list(pairs), ref_template=REF)
    return names, dict(schemas["$defs"])


def _in_path(path: str) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", path):
        about, schema, _ = PARTS[name]
        yield {"name": name, "in": "path", "required": True, "description": about, "schema": schema}


def _in_headers(contract: Contract) -> Iterator[Json]:
    for name in contract.headers:
        about, schema, _ = HEADERS[name]
        yield {"name": name, "in": "header", "description": about, "schema": schema}


def _in_query(contract: Contract, schemas: Json) -> Iterator[Json]:
    """The query's model, field by field; what its fields refer to joins `schemas`."""
    if contract.query is None:
        return
    model = TypeAdapter(contract.query).json_schema(ref_template=REF)
    schemas.update({name: found for name, found in model.get("$defs", {}).items() if name not in schemas})
    for name, found in model.get("properties", {}).items():
        schema = _without_null(found)
        about = schema.pop("description", "")
        needed = name in model.get("required", ())
        yield {"name": name, "in": "query", "required": needed, "description": about, "schema": schema}


def _without_null(schema: Json) -> Json:
    """A query cannot say null: it leaves the name out."""
    kept = {key: value for key, value in schema.items() if key != "anyOf" and (key, value) != ("default", None)}
    forms = [form for form in schema.get("anyOf", ()) if form != {"type": "null"}]
    if len(forms) == 1:
        return {**kept, **forms[0]}
    return {**kept, "anyOf": forms} if forms else kept


def _responses(route: Routed, contract: Contract, names: Mapping[Any, Json]) -> Json:
    if isinstance(contract.answer, str):
        content: Json = {contract.answer: {}}
    else:
        content = {"application/json": {"schema": names[(contract.answer, "serialization")]}}
    found: Json = {str(status): {"description": _phrase(status), "content": content} for status in contract.status}
    if route.method == "GET" and not isinstance(contract.answer, str):
        found["304"] = {"description": "as it was when it had the ETag that If-None-Match names"}
    problem = {"content": {PROBLEM: {"schema": names[(ProblemDocument, "serialization")]}}}
    for status, about in sorted(_refusals(route, contract).items()):
        if str(status) not in found:
            found[str(status)] = {"description": about, **problem}
    found["400"] = {"description": "not HTTP, or not JSON", "content": {**problem["content"], "text/plain": {}}}
    return found


def _refusals(route: Routed, contract: Contract) -> dict[int, str]:
    """Every status that may be answered when it does not go well, and what it then means."""
    parts = re.findall(r"{(\w+)}", route.path)
    codes = [*EVERY, *contract.refuses, *(code for part in parts for code in PARTS[part][2])]
    codes += [code for header in contract.headers for code in HEADERS[header][2]]
    if route.scope != "open":
        codes += ["E0402", "E0411"]
    if route.path.startswith("/api/v1") and route.path != "/api/v1/health":
        codes.append("E0507")
    told: dict[int, list[str]] = {400: [], MISDIRECTED: ["this listener has another name"]}
    for code in dict.fromkeys(codes):
        told.setdefault(STATUS.get(code, 422), []).append(f"{code}: {CODES[code]}")
    if contract.body is not None:
        told |= {status: told.get(status, []) for status in OF_BODIES}
    return {status: "; ".join(about) or _phrase(status) for status, about in told.items()}


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase.lower()


def _security(route: Routed, open_reading: bool) -> list[Json]:
    if route.scope == "open":
        return []
    anybody: list[Json] = [{}] if open_reading and route.scope == "read" else []
    return [{"token": [route.scope]}, *anybody]


def _needs_body(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _name_of(route: Routed) -> str:
    words = re.findall(r"[a-z0-9]+", route.path.removeprefix("/api/v1"))
    return "_".join([route.method.lower(), *words])


def _noun_of(path: str) -> str:
    return path.removeprefix("/api/v1/").partition("/")[0] if path.startswith("/api/v1/") else "daemon"
