"""The API's description: complete, valid, true to the routes and to what they answer."""

import re
from typing import Any

import jsonschema
import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.web.app import ROUTES
from jobsd.web.contract import contract_of
from jobsd.web.errors import STATUS
from jobsd.web.openapi import HEADERS, PARTS, described
from tests.support.engine import enqueued
from tests.support.web import Site, site

OPERATIONS = [(route.method, route.path) for route in ROUTES]
ANSWERED = ["/livez", "/api/v1/status", "/api/v1/jobs", "/api/v1/jobs/nightly", "/api/v1/jobs/nightly/why"]
ANSWERED += ["/api/v1/runs", "/api/v1/runs/1", "/api/v1/runs/1/audit", "/api/v1/tokens", "/api/v1/nodes"]


def operation(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    shape = re.sub(r"{\w+}", "{}", path)
    (found,) = [each for each in document["paths"] if re.sub(r"{\w+}", "{}", each) == shape]
    return dict(document["paths"][found][method.lower()])


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return described(ROUTES, open_reading=True)


def test_every_handler_says_what_it_takes_and_answers() -> None:
    assert [contract_of(route.handle).answer for route in ROUTES].count(None) == 0


def test_every_code_and_header_and_part_of_an_address_that_is_named_is_known() -> None:
    contracts = [contract_of(route.handle) for route in ROUTES]

    assert {code for each in contracts for code in each.refuses} <= {*STATUS, "E0202", "E0504"}
    assert {header for each in contracts for header in each.headers} <= HEADERS.keys()
    assert {part for route in ROUTES for part in re.findall(r"{(\w+)}", route.path)} <= PARTS.keys()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_every_address_is_described(document: dict[str, Any], method: str, path: str) -> None:
    found = operation(document, method, path)

    assert found["summary"]
    assert set(found["responses"]) >= {"200"} or set(found["responses"]) & {"201", "202"}


def test_no_two_operations_have_one_name(document: dict[str, Any]) -> None:
    names = [each["operationId"] for item in document["paths"].values() for each in item.values()]

    assert len(set(names)) == len(names) == len(ROUTES)


def test_whatever_is_referred_to_is_there(document: dict[str, Any]) -> None:
    referred = set(re.findall(r"'#/components/schemas/([^']+)'", str(document)))

    assert referred <= document["components"]["schemas"].keys()
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in document["components"]["schemas"])


def test_every_schema_is_one_of_json_schema(document: dict[str, Any]) -> None:
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_a_change_names_the_scope_of_the_token_that_it_takes(document: dict[str, Any]) -> None:
    named = {(route.method, route.path): operation(document, route.method, route.path)["security"] for route in ROUTES}

    assert named[("POST", "/api/v1/emergency-stop")] == [{"token": ["admin"]}]
    assert named[("POST", "/api/v1/jobs/{job}/runs")] == [{"token": ["trigger"]}]
    assert named[("GET", "/api/v1/runs")] == [{"token": ["read"]}, {}]
    assert named[("GET", "/livez")] == []


def test_no_change_is_open_to_who_may_only_read() -> None:
    assert [route.path for route in ROUTES if route.method != "GET" and route.scope in ("open", "read")] == []
    assert {route.path for route in ROUTES if route.scope == "open"} == {"/livez", "/readyz"}


def test_off_loopback_reading_is_said_to_take_a_token() -> None:
    far = described(ROUTES, open_reading=False)

    assert operation(far, "GET", "/api/v1/runs")["security"] == [{"token": ["read"]}]


@pytest.mark.parametrize("path", ANSWERED)
async def test_an_answer_is_what_the_description_says(served: Site, db: Db, path: str) -> None:
    await enqueued(db, "nightly")
    _, document, _ = await served.ask("GET", "/api/openapi.json")
    shape = re.sub(r"nightly", "{job}", re.sub(r"/runs/1", "/runs/{run}", path))
    content = operation(document, "GET", shape)["responses"]["200"]["content"]

    _, body, _ = await served.ask("GET", path)

    schema = {**content["application/json"]["schema"], "components": document["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)


async def test_the_description_is_served_with_its_tag(db: Db, registry: Registry) -> None:
    async with site(db, registry) as here:
        status, document, headers = await here.ask("GET", "/api/openapi.json", tcp=True)
        again, _, _ = await here.ask("GET", "/api/openapi.json", tcp=True, headers={"If-None-Match": headers["ETag"]})

    assert (status, document["openapi"], again) == (200, "3.1.0", 304)


@pytest.mark.parametrize("path", ["/api/v1/runs/retry", "/api/v1/runs/cancel", "/api/v1/runs/delete"])
async def test_an_address_for_many_runs_is_not_taken_for_a_runs(served: Site, path: str) -> None:
    status, _, headers = await served.ask("PATCH", path, {})

    assert (status, headers["Allow"]) == (405, "POST")
