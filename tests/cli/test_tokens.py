"""`jobsd token`, and a command that reaches a daemon elsewhere with one."""

import json
from collections.abc import AsyncIterator

import pytest

from jobsd.domain.errors import Exit
from jobsd.store.db import Db
from tests.support.site import Site, me, site

JOBS = """
[jobs.cleanup]
command = ["true"]
"""


@pytest.fixture
async def here(db: Db) -> AsyncIterator[Site]:
    async with site(db, JOBS) as started:
        yield started


async def made(here: Site, name: str, scope: str, *more: str) -> str:
    ended = await here.jobsd("token", "create", name, "--scope", scope, *more)
    assert ended.code == 0, ended.err
    return ended.out.strip()


@pytest.mark.req("A6")
async def test_the_secret_alone_is_on_standard_output_so_that_a_shell_can_keep_it(here: Site) -> None:
    ended = await here.jobsd("token", "create", "ci", "--scope", "trigger")

    assert ended.out.startswith("jobsd_") and ended.out.count("\n") == 1 and len(ended.out.strip()) == 49
    assert ended.err.startswith("token:ci may trigger, until 20")


@pytest.mark.req("A6", "B9")
async def test_a_command_with_a_token_triggers_over_tcp_and_is_the_actor(here: Site, db: Db) -> None:
    secret = await made(here, "ci", "trigger")

    ended = await here.jobsd("--url", here.addresses.url, "trigger", "cleanup", JOBSD_TOKEN=secret)

    assert ended.code == 0, ended.err
    assert await db.fetchval("SELECT actor FROM jobsd.runs") == "token:ci"


@pytest.mark.parametrize(
    ("token", "exit_code", "said"),
    [
        ("", Exit.PERMISSION, "error[E0402]: no token: "),
        ("jobsd_" + "x" * 43, Exit.PERMISSION, "error[E0410]: "),
    ],
)
async def test_without_a_good_token_a_change_over_tcp_says_how_to_get_one(
    here: Site, token: str, exit_code: Exit, said: str
) -> None:
    ended = await here.jobsd("--url", here.addresses.url, "trigger", "cleanup", JOBSD_TOKEN=token)

    assert ended.code == exit_code
    assert ended.err.startswith(said)
    assert "jobsd token create" in ended.err


async def test_a_token_that_reaches_not_so_far_says_which_would(here: Site) -> None:
    secret = await made(here, "eyes", "read")

    ended = await here.jobsd("--url", here.addresses.url, "trigger", "cleanup", JOBSD_TOKEN=secret)

    assert ended.code == Exit.PERMISSION
    assert "error[E0411]: token:eyes may read; this takes trigger" in ended.err
    assert secret not in ended.err


async def test_tokens_are_listed_with_what_became_of_them_and_without_their_secrets(here: Site) -> None:
    secret = await made(here, "ci", "trigger", "--reason", "the pipeline")
    await made(here, "forever", "read", "--expires", "never")
    revoked = await here.jobsd("token", "revoke", "ci", "--reason", "leaked")

    ended = await here.jobsd("tokens", "list", "-o", "jsonl")

    found = [json.loads(line) for line in ended.out.splitlines()]
    assert revoked.code == 0
    assert [(each["name"], each["state"], each["created_by"]) for each in found] == [
        ("ci", "revoked", me()),
        ("forever", "good", me()),
    ]
    assert (found[0]["revoked_by"], found[1]["expires_at"]) == (me(), None)
    assert secret not in ended.out


async def test_a_revoked_token_is_no_good_for_the_next_command(here: Site) -> None:
    secret = await made(here, "ci", "read")
    before = await here.jobsd("--url", here.addresses.url, "run", "list", JOBSD_TOKEN=secret)
    await here.jobsd("token", "revoke", "ci")

    after = await here.jobsd("--url", here.addresses.url, "run", "list", JOBSD_TOKEN=secret)

    assert (before.code, after.code) == (0, Exit.PERMISSION)


@pytest.mark.parametrize(
    ("args", "exit_code", "said"),
    [
        (("create", "CI", "--scope", "read"), Exit.USAGE, "name: "),
        (("create", "ci"), Exit.USAGE, "scope"),
        (
            ("create", "ci", "--scope", "read", "--expires", "soon"),
            Exit.USAGE,
            'expected a number and a unit, like "90d"',
        ),
        (("revoke", "nobody"), Exit.NOT_FOUND, 'there is no token named "nobody"'),
    ],
)
async def test_what_is_asked_wrongly_is_told(here: Site, args: tuple[str, ...], exit_code: Exit, said: str) -> None:
    ended = await here.jobsd("token", *args)

    assert (ended.code, ended.out) == (exit_code, "")
    assert said in ended.err


async def test_a_name_that_was_given_is_not_given_again(here: Site) -> None:
    await made(here, "ci", "read")

    ended = await here.jobsd("token", "create", "ci", "--scope", "read")

    assert ended.code == Exit.CONFLICT
    assert 'error[E0526]: there is or was a token named "ci"' in ended.err


async def test_as_json_the_whole_token_is_told(here: Site) -> None:
    ended = await here.jobsd("token", "create", "ci", "--scope", "read", "--expires", "12h", "-o", "json")

    told = json.loads(ended.out)
    assert (told["name"], told["scope"], told["token"][:6]) == ("ci", "read", "jobsd_")
