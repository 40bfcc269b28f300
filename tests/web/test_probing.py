"""Whoever probes for a weak place: requests with pieces changed, cut, doubled, blown up. None is our mistake."""

import asyncio
import random

import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.web.patience import Patience
from tests.support.engine import registered
from tests.support.tokens import bearer, token
from tests.support.web import Site, site
from tests.support.wire import wire

QUICK = Patience(head_s=0.5, body_s=0.5, answer_s=5.0)
WHOLE = (
    b"POST /api/v1/jobs/nightly/runs?x=%00 HTTP/1.1\r\n",
    b"Host: localhost\r\n",
    b"Authorization: Bearer SECRET\r\n",
    b"Content-Type: application/json\r\n",
    b"Idempotency-Key: k-1\r\n",
    b"If-Match: *\r\n",
    b"Content-Length: 28\r\n",
    b"\r\n",
    b'{"params": {"day": [1, 2]}}\n',
)
ODD = (
    b"\0",
    b"\xff\xfe",
    b"\r\n",
    b" ",
    b"\t",
    b"%",
    b"A" * 9000,
    b"-1",
    b"9" * 20,
    b"chunked",
    b"{" * 400,
)


def mutated(pieces: tuple[bytes, ...], chance: random.Random) -> bytes:
    """The request with one to three things wrong with it."""
    made = list(pieces)
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(made))
        where = chance.randint(0, len(made[at]))
        match chance.randrange(5):
            case 0:
                made[at] = made[at][:where] + chance.choice(ODD) + made[at][where:]
            case 1:
                made[at] = made[at][:where]
            case 2:
                made.insert(at, made[at])
            case 3 if len(made) > 1:
                del made[at]
            case _:
                made[at] = made[at].swapcase()
    return b"".join(made)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.req("E13")
@pytest.mark.fault(43, 49, 50)
async def test_no_probe_is_a_mistake_of_ours_and_the_daemon_serves_on(db: Db, registry: Registry, seed: int) -> None:
    await registered(db, *registry.jobs.values())
    chance = random.Random(seed)
    async with site(db, registry, patience=QUICK, rate=10_000) as here:
        secret = (await token(db, "trigger")).encode()
        pieces = tuple(piece.replace(b"SECRET", secret) for piece in WHOLE)
        statuses = await asyncio.gather(*(answered(here, mutated(pieces, chance)) for _ in range(60)))
        alive, _, _ = await here.ask("GET", "/livez", tcp=True)

    assert alive == 200
    assert {status for status in statuses if status >= 500} == set()
    assert len({status for status in statuses if status}) >= 3  # they got past the parser too
    assert [event for event in here.events if getattr(event, "event", "") == "request_failed"] == []


async def answered(here: Site, request: bytes) -> int:
    """The status of the first answer; 0 when the connection was closed without one."""
    async with wire(here.addresses.url) as probe:
        await probe.send(request)
        said = await probe.rest()
    return int(said.split(b" ", 2)[1]) if said.startswith(b"HTTP/1.") else 0


@pytest.mark.req("E13")
async def test_who_holds_a_token_has_no_more_room_than_others(db: Db, registry: Registry) -> None:
    async with site(db, registry, patience=Patience(body_bytes=1000)) as here:
        key = bearer(await token(db))
        large, body, _ = await here.ask("POST", "/api/v1/reload", data=b" " * 2000, tcp=True, headers=key)
        long, _, _ = await here.ask("GET", f"/api/v1/jobs/{'x' * 9000}", tcp=True, headers=key)
        wide, _, _ = await here.ask("GET", "/livez", tcp=True, headers={"X-Wide": "x" * 9000})

    assert (large, body["code"], long, wide) == (413, "E0507", 400, 400)


@pytest.mark.parametrize("path", ["/api/v1/reload", "/api/v1/tokens", "/api/v1/emergency-stop"])
@pytest.mark.fault(42, 43)
async def test_a_body_is_not_read_before_it_is_clear_that_the_sender_may(served: Site, path: str) -> None:
    async with wire(served.addresses.url) as probe:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n"
        await probe.send(head.encode())
        said = await probe.answer()

    assert said.startswith(b"HTTP/1.1 401")
