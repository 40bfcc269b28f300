"""Refusals as RFC 9457 documents: the command line's codes and texts, all mistakes at once, never a traceback."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import orjson
from aiohttp import web

from jobsd.domain.codes import CODES
from jobsd.domain.errors import Exit, JobsdError, Problem
from jobsd.observe.redact import Redactor

STATUS: Mapping[str, int] = {
    "E0402": 401,
    "E0410": 401,
    "E0411": 403,
    "E0412": 429,
    "E0413": 412,
    "E0501": 404,
    "E0502": 409,
    "E0503": 404,
    "E0504": 422,
    "E0507": 422,
    "E0508": 503,
    "E0509": 404,
    "E0510": 403,
    "E0511": 503,
    "E0528": 503,
    "E0512": 500,
    **dict.fromkeys(("E0514", "E0515", "E0516", "E0517", "E0518", "E0519", "E0520", "E0522", "E0525", "E0526"), 409),
    "E0527": 429,
    **dict.fromkeys(("E0521", "E0523"), 404),
}
RETRY_AFTER_S = 5


class Refused(JobsdError):
    """A request that is answered with `status` and no more than that."""

    def __init__(self, status: int, *problems: Problem, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(problems, Exit.USAGE)
        self.status = status
        self.headers = dict(headers or {})


def refused(status: int, code: str, message: str, *hints: str, headers: Mapping[str, str] | None = None) -> Refused:
    """A `Refused` of one problem, to be raised."""
    return Refused(status, Problem(code, message, hints=hints), headers=headers)


def status_of(error: JobsdError) -> int:
    """Configuration that does not load is the sender's to mend (422); a database that does not answer passes (503)."""
    if isinstance(error, Refused):
        return error.status
    code = error.problems[0].code
    return STATUS.get(code) or {"E02": 422, "E03": 503}.get(code[:3], 400)


def answer_to(error: JobsdError, path: str, redactor: Redactor) -> web.Response:
    """The problem document. `detail` and `hint` are those of the first problem, `errors` has them all.

    Words of our own stay as they are ("no token: …" is no secret); what comes from elsewhere is redacted.
    """
    status = status_of(error)
    first = error.problems[0]
    document = {
        "type": f"urn:jobsd:error:{first.code}",
        "title": CODES[first.code],
        "status": status,
        "detail": first.message,
        "instance": path,
        "code": first.code,
        "hint": "\n".join(first.hints),
        "errors": list(_entries(error.problems)),
        **error.detail,
    }
    headers = error.headers if isinstance(error, Refused) else {}
    wait_s = error.detail.get("retry_after_s", RETRY_AFTER_S if status == 503 else None)
    if wait_s is not None:
        headers = {"Retry-After": str(wait_s), **headers}
    body = orjson.dumps(document if isinstance(error, Refused) else redactor.fields(document))
    return web.Response(status=status, body=body, content_type="application/problem+json", headers=headers)


def _entries(problems: Iterable[Problem]) -> Iterable[dict[str, Any]]:
    for problem in problems:
        entry: dict[str, Any] = {"code": problem.code, "detail": problem.message}
        if problem.place and problem.place.file.startswith("#"):
            entry["pointer"] = problem.place.file
        elif problem.place:
            entry["place"] = asdict(problem.place)
        if problem.note:
            entry["note"] = problem.note
        if problem.hints:
            entry["hints"] = list(problem.hints)
        yield entry
