"""A request: an answer of 2xx completes the run, every other fails it. Redirects are not followed.

The address comes from the registry alone, never from parameters; what its name leads to is checked
(`domain.destination`). The receiver can tell a repeated attempt by the
Idempotency-Key, the same for all attempts at a run, and an outdated one by the fence.
"""

from collections.abc import Mapping
from typing import Any

import aiohttp
import orjson
from yarl import URL

from jobsd import __version__
from jobsd.domain.destination import NotAllowed
from jobsd.domain.job import HttpSpec
from jobsd.domain.outcome import Completed, Failed, Outcome
from jobsd.engine.executors.connector import connector, require_allowed
from jobsd.engine.executors.execution import Execution
from jobsd.engine.executors.output import Tail
from jobsd.engine.executors.words import RESULT_BYTES, UnfitResult, as_json, clean

WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
CHUNK = 64 * 1024
URL_BYTES = 500
ERROR_BODY = 1024  # bytes of a failed request's answer that are shown
JSON_BODY = RESULT_BYTES // 2


async def run(execution: Execution) -> Outcome:
    spec = _spec(execution)
    try:
        require_allowed(spec.url, spec.allow)
        headers, body = headers_of(execution), body_of(execution)
        async with (
            aiohttp.ClientSession(
                connector=connector(spec.allow), timeout=aiohttp.ClientTimeout(), cookie_jar=aiohttp.DummyCookieJar()
            ) as session,
            session.request(spec.method, spec.url, headers=headers, data=body, allow_redirects=False) as answer,
        ):
            return await _outcome(execution, answer)
    except aiohttp.InvalidURL:
        return Failed("http", f'"{shown(spec.url)}" is not an address that a request can be sent to')
    except NotAllowed as refused:
        return Failed("destination", clean(f"{spec.method} {shown(spec.url)}: {refused}"))
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Failed("http", clean(f"{spec.method} {shown(spec.url)}: {str(error) or type(error).__name__}"))


def rehearse(execution: Execution) -> dict[str, Any]:
    """What would be sent; of headers only the names, for their values may be secrets."""
    spec = _spec(execution)
    body = body_of(execution)
    return {
        "would_send": f"{spec.method} {shown(spec.url)}",
        "headers": sorted(headers_of(execution)),
        "body": None if body is None else clean(body.decode(), ERROR_BODY),
    }


def _spec(execution: Execution) -> HttpSpec:
    if execution.definition.http is None:
        raise AssertionError("an http job without its request")
    return execution.definition.http


def headers_of(execution: Execution) -> dict[str, str]:
    """The job's, under jobsd's own."""
    own = {
        "Jobsd-Job": execution.run.job,
        "Jobsd-Run": str(execution.run.id),
        "Jobsd-Attempt": str(execution.run.attempt),
        "Jobsd-Fence": str(execution.run.fence),
        "Idempotency-Key": execution.idempotency_key,
    }
    taken = {name.lower() for name in own}
    spec = _spec(execution)
    given = {name: value for name, value in spec.headers.items() if name.lower() not in taken}
    names = {name.lower() for name in given}
    if "user-agent" not in names:
        given["User-Agent"] = f"jobsd/{__version__}"
    if "content-type" not in names and body_of(execution) is not None:
        given["Content-Type"] = "text/plain; charset=utf-8" if isinstance(spec.body, str) else "application/json"
    return {**given, **own}


def body_of(execution: Execution) -> bytes | None:
    """Text as it is, a table as JSON; without one the parameters, for the methods that have a body."""
    spec = _spec(execution)
    match spec.body:
        case str():
            return spec.body.encode()
        case Mapping():
            return orjson.dumps(dict(spec.body))
    return orjson.dumps(dict(execution.params)) if spec.method in WITH_BODY else None


async def _outcome(execution: Execution, answer: aiohttp.ClientResponse) -> Outcome:
    whole, tail = Tail(JSON_BODY), Tail(execution.definition.output)
    head = b""
    async for chunk in answer.content.iter_chunked(CHUNK):  # to the end: the work may go on while it answers
        whole.add(chunk)
        tail.add(chunk)
        head += chunk[: max(0, ERROR_BODY - len(head))]
    if 200 <= answer.status < 300:
        return Completed({"status": answer.status, "body": _body(answer, whole, tail)})
    first = f"answered {answer.status} {answer.reason or ''}".rstrip()
    if 300 <= answer.status < 400:
        first += f", to {shown(answer.headers.get('Location', 'nowhere'))}; redirects are not followed"
    return Failed("http", clean(f"{first}\n{head.decode(errors='replace')}".rstrip()))


def _body(answer: aiohttp.ClientResponse, whole: Tail, tail: Tail) -> Any:
    """JSON as such if it is not too large, else the end of the text."""
    if "json" in answer.content_type and whole.total <= JSON_BODY:
        try:
            return as_json(orjson.loads(whole.text()))
        except (UnfitResult, orjson.JSONDecodeError):
            pass  # it only said so
    return tail.text()


def shown(url: str) -> str:
    """An address without what may be a secret: user, password, query."""
    try:
        bare = URL(url).with_user(None).with_query(None).with_fragment(None)
    except ValueError:  # no address, or one without a host
        bare = URL.build(path=url.partition("?")[0])
    return clean(f"{bare.human_repr()}{'?…' if '?' in url else ''}", URL_BYTES)
