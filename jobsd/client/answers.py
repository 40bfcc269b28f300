"""What comes back over HTTP: the decoded answer, or why there is none."""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

OVER = frozenset({"completed", "failed", "cancelled"})
SOON_S, SELDOM_S = 0.1, 2.0  # waiting for a run asks after so long, more seldom as it takes longer


class Refused(Exception):
    """jobsd will not do it: `code` as `jobsd explain` has it, `status` of HTTP, `problem` the whole document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.code = str(problem.get("code", ""))
        self.problem = problem
        said = problem.get("detail") or problem.get("title") or f"HTTP status {status}"
        super().__init__(f"{self.code}: {said}" if self.code else str(said))


class Unreachable(Exception):
    """No answer came. What was asked may be done all the same: with an idempotency key it is safe to ask again."""


class NotOver(Exception):
    """A run that was waited for goes on; `run` is how it was at last."""

    def __init__(self, run: Mapping[str, Any]) -> None:
        self.run = run
        super().__init__(f"run {run['id']} is {run['state']} still")


def decoded(status: int, raw: bytes) -> dict[str, Any]:
    """The answer's JSON. Raises `Refused`, or `Unreachable` for what jobsd does not say."""
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError:
        value = None
    if not isinstance(value, dict):
        raise Unreachable(f"expected a JSON object, got {raw[:80]!r} with status {status}: this is not jobsd")
    if status >= 400:
        raise Refused(status, value)
    return value


def pauses_s() -> Iterator[float]:
    """How long to wait before each further look. Seconds."""
    pause_s = SOON_S
    while True:
        yield pause_s
        pause_s = min(SELDOM_S, pause_s * 1.5)
