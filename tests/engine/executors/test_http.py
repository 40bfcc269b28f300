"""HTTP jobs against a real server on loopback: what is sent, and what each answer makes of the run."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from jobsd.domain.outcome import Outcome
from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import Bench, completed, failed


class Receiver:
    """Keeps every request, and answers as its path says."""

    def __init__(self) -> None:
        self.requests: list[tuple[web.Request, str]] = []
        self.asked = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request, await request.text()))
        self.asked.set()
        match request.match_info["what"]:
            case "json":
                return web.json_response({"rows": 3}, status=201)
            case "text":
                return web.Response(text="x" * 100 + "\0end")
            case "liar":
                return web.Response(text="{not json", content_type="application/json")
            case "moved":
                raise web.HTTPFound("https://user:secret@elsewhere.example/path?token=secret")
            case "broken":
                return web.Response(status=503, body=b"\xff" + b"why " * 1000)
            case "flood":
                response = web.StreamResponse()
                await response.prepare(request)
                for _ in range(300):
                    await response.write(b"y" * 100_000)
                return response
            case "never":
                await asyncio.Event().wait()
        raise web.HTTPNotFound

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.requests[-1][0].headers)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{what}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.base = f"http://127.0.0.1:{runner.addresses[0][1]}"  # type: ignore[attr-defined]
    yield receiver
    await runner.cleanup()


async def run(bench: Bench, receiver: Receiver, path: str, **request: Any) -> Outcome:
    keys = {key: request.pop(key) for key in ("params", "dry_run", "run", "output") if key in request}
    url = request.pop("url", f"{receiver.base}/{path}")  # type: ignore[attr-defined]
    return await execute(bench.execution(http={"url": url, **request}, **keys))


@pytest.mark.req("P4")
async def test_a_request_carries_fence_run_and_a_key_that_stays_the_same(bench: Bench, receiver: Receiver) -> None:
    outcome = completed(await run(bench, receiver, "json", method="POST", params={"region": "eu"}))

    assert outcome.result == {"status": 201, "body": {"rows": 3}}
    assert receiver.headers["Jobsd-Job"] == "work"
    assert receiver.headers["Jobsd-Run"] == "12"
    assert receiver.headers["Jobsd-Attempt"] == "2"
    assert receiver.headers["Jobsd-Fence"] == "77"
    assert receiver.headers["Idempotency-Key"] == "work:run:12"
    assert receiver.headers["Content-Type"] == "application/json"
    assert json.loads(receiver.requests[-1][1]) == {"region": "eu"}


@pytest.mark.req("P4")
@pytest.mark.fault(49)
async def test_no_key_can_smuggle_a_header_in(bench: Bench, receiver: Receiver) -> None:
    completed(await run(bench, receiver, "json", run={"idempotency_key": "a\r\nX-Forged: 1"}))
    smuggled = failed(await run(bench, receiver, "json", headers={"X-Note": "a\r\nX-Forged: 1"}))

    assert receiver.headers["Idempotency-Key"] == "work:a%0D%0AX-Forged%3A%201"
    assert len(receiver.requests) == 1
    assert smuggled.kind == "http"


@pytest.mark.req("C2")
async def test_a_jobs_headers_are_sent_but_not_over_jobsds_own(bench: Bench, receiver: Receiver) -> None:
    headers = {"Authorization": "Bearer x", "jobsd-fence": "99", "content-type": "text/csv"}

    await run(bench, receiver, "json", method="PUT", headers=headers, body="a,b")

    assert receiver.headers["Authorization"] == "Bearer x"
    assert receiver.requests[-1][0].headers.getall("Jobsd-Fence") == ["77"]
    assert receiver.requests[-1][0].headers.getall("Content-Type") == ["text/csv"]
    assert receiver.requests[-1][1] == "a,b"


@pytest.mark.req("C2")
async def test_a_get_has_no_body_and_a_table_is_sent_as_json(bench: Bench, receiver: Receiver) -> None:
    await run(bench, receiver, "json", params={"region": "eu"})
    got = receiver.requests[-1][1]
    await run(bench, receiver, "json", method="PATCH", body={"n": [1]}, params={"region": "eu"})

    assert got == ""
    assert json.loads(receiver.requests[-1][1]) == {"n": [1]}


@pytest.mark.req("P11")
async def test_a_text_answer_keeps_its_end_fit_for_the_database(bench: Bench, receiver: Receiver) -> None:
    short = completed(await run(bench, receiver, "text", output=5))
    liar = completed(await run(bench, receiver, "liar"))

    assert short.result["body"] == "[… 99 bytes before this were dropped]\nxend"
    assert liar.result["body"] == "{not json"


@pytest.mark.req("P11")
async def test_an_endless_answer_is_read_but_not_kept(bench: Bench, receiver: Receiver) -> None:
    outcome = completed(await run(bench, receiver, "flood", output="1KiB"))

    first, _, kept = outcome.result["body"].partition("\n")
    assert first == f"[… {30_000_000 - 1024} bytes before this were dropped]"
    assert kept == "y" * 1024


@pytest.mark.req("C2", "B8")
async def test_any_other_status_fails_the_run_with_the_beginning_of_the_answer(
    bench: Bench, receiver: Receiver
) -> None:
    outcome = failed(await run(bench, receiver, "broken"))

    assert outcome.kind == "http"
    assert outcome.error.startswith("answered 503 Service Unavailable\n\ufffdwhy why ")
    assert len(outcome.error) < 1100


@pytest.mark.req("C2")
@pytest.mark.fault(48)
async def test_a_redirect_is_not_followed_and_its_secrets_are_not_told(bench: Bench, receiver: Receiver) -> None:
    outcome = failed(await run(bench, receiver, "moved"))

    assert outcome.error.startswith(
        "answered 302 Found, to https://elsewhere.example/path?…; redirects are not followed"
    )
    assert "secret" not in outcome.error
    assert len(receiver.requests) == 1


@pytest.mark.req("P11")
@pytest.mark.fault(48)
async def test_a_name_is_resolved_once_and_only_its_allowed_addresses_are_tried(
    bench: Bench, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = receiver.base.rpartition(":")[2]  # type: ignore[attr-defined]
    answers = [["169.254.169.254", "127.0.0.1"], ["169.254.169.254"]]  # as the name's owner would have it
    asked: list[str] = []
    system = socket.getaddrinfo

    def rebinding(host: str, *args: Any, **keys: Any) -> Any:
        if host != "partner.test":
            return system(host, *args, **keys)
        asked.append(host)
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, int(port))) for address in answers[len(asked) - 1]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    url = f"http://partner.test:{port}/json"

    first = completed(await run(bench, receiver, "json", url=url, allow=["127.0.0.1"]))
    lookups = len(asked)
    second = failed(await run(bench, receiver, "json", url=url, allow=["127.0.0.1"]))

    assert first.result == {"status": 201, "body": {"rows": 3}}
    assert receiver.headers["Host"] == f"partner.test:{port}"
    assert lookups == 1
    assert (second.kind, len(receiver.requests)) == ("destination", 1)


@pytest.mark.req("B8")
@pytest.mark.parametrize(
    "url, said",
    [
        ("http://127.0.0.1:9/hook?token=secret", "GET http://127.0.0.1:9/hook?…: "),
        ("http://no-such-host.invalid/", "GET http://no-such-host.invalid/: "),
    ],
)
async def test_what_cannot_be_reached_fails_the_run_in_words(
    bench: Bench, receiver: Receiver, url: str, said: str
) -> None:
    outcome = failed(await run(bench, receiver, "", url=url))

    assert outcome.kind == "http"
    assert said in outcome.error
    assert "secret" not in outcome.error


@pytest.mark.req("C3")
async def test_a_request_can_be_cancelled(bench: Bench, receiver: Receiver) -> None:
    work = asyncio.create_task(run(bench, receiver, "never"))
    await receiver.asked.wait()

    work.cancel()

    with pytest.raises(asyncio.CancelledError):
        await work


@pytest.mark.req("A8")
async def test_a_dry_run_sends_nothing_and_shows_no_secret(bench: Bench, receiver: Receiver) -> None:
    outcome = completed(
        await run(
            bench,
            receiver,
            "json?token=secret",
            method="POST",
            headers={"Authorization": "secret"},
            params={"n": 1},
            dry_run=True,
        )
    )

    assert receiver.requests == []
    assert outcome.result["dry_run"] is True
    assert outcome.result["would_send"] == f"POST {receiver.base}/json?…"  # type: ignore[attr-defined]
    assert "Authorization" in outcome.result["headers"]
    assert outcome.result["body"] == '{"n":1}'
    assert "secret" not in str(outcome.result)
