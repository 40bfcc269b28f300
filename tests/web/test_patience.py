"""Clients that drip, stay silent, take nothing or come by the hundred: each loses its connection, others are served."""

import asyncio
import socket
from contextlib import AsyncExitStack
from dataclasses import replace
from urllib.parse import urlsplit

import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.web.patience import Patience
from tests.support.engine import registered
from tests.support.web import site
from tests.support.wire import wire

SHORT = Patience(head_s=0.3, body_s=0.3, answer_s=0.3, connections=5, reserved=2)
HEAD = b"POST /api/v1/jobs/nightly/runs HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.req("E13")
@pytest.mark.fault(42)
async def test_a_client_that_says_nothing_is_closed(db: Db, registry: Registry) -> None:
    async with site(db, registry, patience=SHORT) as here, wire(here.addresses.url) as silent:
        said = await silent.rest()

    assert said == b""


@pytest.mark.fault(42)
async def test_a_head_that_drips_is_closed_before_it_is_whole(db: Db, registry: Registry) -> None:
    async with site(db, registry, patience=SHORT) as here, wire(here.addresses.url) as slow:
        dripping = asyncio.create_task(slow.drip(HEAD + b"X: " + b"x" * 10_000))
        said = await slow.rest()
        dripping.cancel()

    assert said == b""


@pytest.mark.fault(42)
async def test_a_second_head_that_drips_on_a_kept_connection_is_closed_too(db: Db, registry: Registry) -> None:
    async with site(db, registry, patience=SHORT) as here, wire(here.addresses.url) as slow:
        await slow.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        first = await slow.answer()
        dripping = asyncio.create_task(slow.drip(HEAD + b"X: " + b"x" * 10_000))
        rest = await slow.rest()
        dripping.cancel()

    assert first.startswith(b"HTTP/1.1 200")
    assert rest == b'{"alive":true}'


@pytest.mark.fault(42)
async def test_a_body_that_drips_is_answered_408_and_closed(db: Db, registry: Registry) -> None:
    async with site(db, registry, patience=SHORT) as here:
        reader, writer = await asyncio.open_unix_connection(here.addresses.socket)
        writer.write(HEAD + b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
        async with asyncio.timeout(30):
            said = await reader.read()
        writer.transport.abort()

    assert said.startswith(b"HTTP/1.1 408")
    assert b'"code":"E0507"' in said


async def test_a_body_that_nobody_reads_is_not_waited_for_either(db: Db, registry: Registry) -> None:
    async with site(db, registry, patience=SHORT) as here, wire(here.addresses.url) as slow:
        await slow.send(HEAD + b"Content-Length: 1000\r\n\r\n{")
        said = await slow.rest()

    assert said.startswith(b"HTTP/1.1 401")


@pytest.mark.fault(42)
async def test_a_client_that_takes_no_answer_loses_its_connection(db: Db, registry: Registry) -> None:
    whole = 64 << 20  # more than the kernel buffers for a connection
    given_up = asyncio.Event()
    changes = {"metrics": lambda: (b"x" * whole, "text/plain"), "observe": lambda _: given_up.set()}
    async with site(db, registry, patience=SHORT, **changes) as here:
        client = socket.create_connection(("127.0.0.1", urlsplit(here.addresses.url).port or 0))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")

        async with asyncio.timeout(30):
            await given_up.wait()
        taken = await asyncio.to_thread(received, client)

    assert 0 < taken < whole


def received(client: socket.socket) -> int:
    """How much still comes until the connection ends."""
    taken = 0
    with client:
        client.settimeout(30)
        while block := client.recv(1 << 20):
            taken += len(block)
    return taken


@pytest.mark.fault(42)
async def test_one_connection_too_many_is_told_so_and_the_socket_still_serves_operators(
    db: Db, registry: Registry
) -> None:
    patience = replace(SHORT, head_s=30.0)
    await registered(db, *registry.jobs.values())
    async with site(db, registry, patience=patience) as here, AsyncExitStack() as stack:
        held = [await stack.enter_async_context(wire(here.addresses.url)) for _ in range(5)]
        for each in held:
            await each.send(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await each.answer()

        async with wire(here.addresses.url) as turned:
            said = await turned.rest()
        status, _, _ = await here.ask("POST", "/api/v1/jobs/nightly/runs")

    assert said.startswith(b"HTTP/1.1 503")
    assert status == 201
