"""How often somebody may ask: buckets that fill with time, one for each, and bad tokens held up far sooner."""

from types import SimpleNamespace

import pytest

from jobsd.registry.load import Registry
from jobsd.store.db import Db
from jobsd.web import limits
from jobsd.web.limits import FAILURES, Buckets, Limits
from jobsd.web.peers import neighbourhood
from tests.support.engine import registered
from tests.support.tokens import bearer, token
from tests.support.web import site

RUNS = "/api/v1/runs"


class Clock:
    """Goes when it is told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_bucket_grants_its_size_at_once_and_then_what_time_brings(clock: Clock) -> None:
    buckets = Buckets(2, 10, clock)

    at_once = [buckets.take("a").granted for _ in range(11)]
    refused = buckets.take("a")
    clock.now_s += 0.5
    later = [buckets.take("a").granted for _ in range(2)]

    assert at_once == [True] * 10 + [False]
    assert (refused.remaining, refused.next_s, refused.full_s) == (0, 0.5, 5.0)
    assert later == [True, False]


def test_a_bucket_never_holds_more_than_its_size(clock: Clock) -> None:
    buckets = Buckets(2, 10, clock)
    buckets.take("a")

    clock.now_s += 86_400

    assert [buckets.take("a").granted for _ in range(11)].count(True) == 10


def test_one_bucket_knows_nothing_of_another(clock: Clock) -> None:
    buckets = Buckets(1, 1, clock)

    assert [buckets.take(key).granted for key in ("a", "a", "b")] == [True, False, True]


def test_buckets_are_bounded_and_the_one_longest_unused_goes(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_BUCKETS", 3)
    buckets = Buckets(1, 1, clock)

    for key in ("a", "b", "c", "a", "d"):
        buckets.take(key)

    assert buckets.take("a").granted is False
    assert buckets.take("b").granted is True


@pytest.mark.fault(45)
def test_too_many_bad_tokens_hold_up_their_neighbourhood_but_no_token_that_was_good(clock: Clock) -> None:
    held = Limits(100, clock)
    held.was_good(b"good")

    for _ in range(FAILURES):
        held.was_bad("here", b"bad")

    assert held.held_up("here", b"other") is not None
    assert held.held_up("here", b"good") is None
    assert held.held_up("there", b"other") is None
    clock.now_s += 61
    assert held.held_up("here", b"other") is None
    assert held.held_up("here", b"good") is None


def test_a_good_token_that_became_bad_is_held_up_like_any_other(clock: Clock) -> None:
    held = Limits(100, clock)
    held.was_good(b"once good")

    for _ in range(FAILURES):
        held.was_bad("here", b"once good")

    assert held.held_up("here", b"once good") is not None


@pytest.mark.parametrize(
    ("remote", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", "here"),
    ],
)
def test_an_owner_of_ipv6_counts_as_one_however_many_addresses_it_has(remote: str, counted: str) -> None:
    asked = SimpleNamespace(remote=remote)  # all that is looked at of a request

    assert neighbourhood(asked) == counted  # type: ignore[arg-type]


async def test_every_answer_over_tcp_says_what_is_left(db: Db, registry: Registry) -> None:
    async with site(db, registry, rate=2) as here:
        seen = [(await here.ask("GET", "/livez", tcp=True))[2] for _ in range(2)]
        missing = (await here.ask("GET", "/nothing", tcp=True))[2]
        local = (await here.ask("GET", "/livez"))[2]

    assert [headers["RateLimit-Limit"] for headers in seen] == ["10", "10"]
    assert [int(headers["RateLimit-Remaining"]) for headers in (*seen, missing)] == [9, 8, 7]
    assert int(seen[0]["RateLimit-Reset"]) == 1
    assert "RateLimit-Limit" not in local


@pytest.mark.fault(42)
async def test_who_asks_too_often_is_told_when_to_come_back_and_the_socket_still_serves(
    db: Db, registry: Registry
) -> None:
    await registered(db, *registry.jobs.values())
    async with site(db, registry, rate=1) as here:
        answers = [await here.ask("GET", "/livez", tcp=True) for _ in range(7)]
        by_socket, _, _ = await here.ask("POST", "/api/v1/jobs/nightly/runs")

    status, body, headers = next(answer for answer in answers if answer[0] == 429)
    assert (status, body["code"]) == (429, "E0412")
    assert body["detail"] == "more than 1 requests a second from 127.0.0.1"
    assert (headers["Retry-After"], headers["RateLimit-Remaining"]) == ("1", "0")
    assert by_socket == 201


async def test_two_tokens_from_one_address_have_a_limit_each(db: Db, registry: Registry) -> None:
    async with site(db, registry, rate=1) as here:
        one, other = bearer(await token(db, "read", "one")), bearer(await token(db, "read", "other"))
        ones = [(await here.ask("GET", RUNS, tcp=True, headers=one))[0] for _ in range(10)]
        others, _, _ = await here.ask("GET", RUNS, tcp=True, headers=other)

    assert 429 in ones
    assert others == 200


@pytest.mark.fault(45)
async def test_guessing_tokens_ends_after_a_few_without_another_look_into_the_database(
    db: Db, registry: Registry
) -> None:
    async with site(db, registry) as here:
        good = bearer(await token(db, "read"))
        await here.ask("GET", RUNS, tcp=True, headers=good)
        guesses = [bearer(f"jobsd_{number:043d}") for number in range(FAILURES + 2)]
        statuses = [(await here.ask("GET", RUNS, tcp=True, headers=guess))[0] for guess in guesses]
        still, _, _ = await here.ask("GET", RUNS, tcp=True, headers=good)
        without, _, _ = await here.ask("GET", RUNS, tcp=True)

    assert statuses == [401] * FAILURES + [429] * 2
    assert (still, without) == (200, 200)
