"""The API for a program that waits: one connection, the standard library's, and no more than jobsd itself needs."""

import http.client
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from jobsd.client import asks
from jobsd.client.answers import OVER, NotOver, Unreachable, decoded, pauses_s
from jobsd.client.asks import Ask, Json, Run
from jobsd.client.connection import SocketConnection, url_connection

TIMEOUT_S = 30.0


class HttpClient:
    """One daemon, by its Unix socket or by URL and token. Every call raises `Refused` or `Unreachable`.

    Answers are the API's JSON (docs/reference/http.md). Each call has a connection of its own, so that threads may
    share a client, and a connection that has gone stale leaves nothing in doubt.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        socket: str | Path | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        if (url is None) == (socket is None):
            raise ValueError("expected either a url or a socket")
        self.url = (url or "http://localhost").rstrip("/")
        self.token = token
        self.socket = Path(socket) if socket is not None else None
        self.timeout_s = timeout_s

    def enqueue(self, job: str, run: Run | None = None, *, reason: str | None = None) -> Json:
        """Ask for a run; `created` is false when its key had made it before."""
        return self._send(asks.enqueue(job, run or Run(), reason))

    def enqueue_many(self, job: str, runs: Iterable[Run], *, key: str | None = None, reason: str | None = None) -> Json:
        """Ask for up to 10,000 runs, all or none; `ids` in their order. `key` numbers those that have none."""
        return self._send(asks.enqueue_many(job, runs, key, reason))

    def run(self, run: int) -> Json:
        """One run, whole."""
        return self._send(asks.show(run))

    def retry(self, run: int, *, reason: str | None = None) -> Json:
        """Queue a failed run again."""
        return self._send(asks.act(run, "retry", reason=reason))

    def cancel(self, run: int, *, reason: str | None = None) -> Json:
        """Cancel a queued or failed run."""
        return self._send(asks.act(run, "cancel", reason=reason))

    def wait(self, run: int, timeout_s: float | None = None) -> Json:
        """Stay until a run is over; the run. Raises `NotOver` after `timeout_s` seconds."""
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        for pause_s in pauses_s():
            if (seen := self.run(run))["state"] in OVER:
                break
            left_s = pause_s if end_s is None else end_s - time.monotonic()
            if left_s <= 0:
                raise NotOver(seen)
            time.sleep(min(pause_s, left_s))
        return seen

    # -- work that this program does itself: runs of external jobs ----------------------------------------------------

    def start(self, job: str, run: Run | None = None, *, reason: str | None = None) -> Json:
        """Ask for a run of an external job and begin it; `id` and `fence` of the answer go into every report."""
        return self._send(asks.enqueue(job, run or Run(), reason, start=True))

    def start_queued(self, run: int, *, reason: str | None = None) -> Json:
        """Begin a run that is queued."""
        return self._send(asks.act(run, "start", reason=reason))

    def heartbeat(self, run: int, fence: int) -> Json:
        """Say that the work lives."""
        return self._send(asks.act(run, "heartbeat", fence=fence))

    def progress(
        self,
        run: int,
        fence: int,
        progress: float | None = None,
        *,
        note: str | None = None,
        step: str | None = None,
        steps: Mapping[str, float] | None = None,
    ) -> Json:
        """Say how far it is, 0 to 1: of `step` if one is named. `steps`, once: the pipeline's names and weights."""
        return self._send(asks.act(run, "progress", fence=fence, progress=progress, note=note, step=step, steps=steps))

    def message(self, run: int, fence: int, text: str, level: str = "info") -> Json:
        """Say what happens: info, warning or error."""
        return self._send(asks.act(run, "messages", fence=fence, text=text, level=level))

    def complete(self, run: int, fence: int, result: Any = None) -> Json:
        """The work is done."""
        return self._send(asks.act(run, "complete", fence=fence, result=result))

    def fail(self, run: int, fence: int, error: str, *, kind: str | None = None, final: bool = False) -> Json:
        """The work failed, with its error word for word; `final`: no declared retry follows."""
        return self._send(asks.act(run, "fail", fence=fence, error=error, kind=kind, final=final or None))

    def _send(self, ask: Ask) -> Json:
        body = None if ask.body is None else orjson.dumps(ask.body)
        target = f"{urlsplit(self.url).path}/api/v1{ask.path}"
        try:
            with closing(self._connection()) as connection:
                connection.request(ask.method, target, body, headers_of(ask, self.token))
                response = connection.getresponse()
                status, raw = response.status, response.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"{self.socket or self.url}: {error or type(error).__name__}") from error
        return decoded(status, raw)

    def _connection(self) -> http.client.HTTPConnection:
        if self.socket is not None:
            return SocketConnection(self.socket, self.timeout_s)
        return url_connection(self.url, self.timeout_s)


def headers_of(ask: Ask, token: str | None) -> dict[str, str]:
    """The headers of a request; `token` is sent as it is."""
    return {
        "Accept": "application/json",
        **({} if ask.body is None else {"Content-Type": "application/json"}),
        **({} if token is None else {"Authorization": f"Bearer {token}"}),
        **({} if ask.key is None else {"Idempotency-Key": ask.key}),
    }
