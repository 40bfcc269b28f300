"""Speaks to the daemon's API and turns its problems into the same errors that the daemon's own machine would print.

Standard library alone, so that commands start fast. Where the daemon is, `address` knows; what its answers mean to a
person, the commands.
"""

import http.client
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import click

from jobsd.cli.address import Address, find
from jobsd.cli.problems import not_jobsd, refused_socket, rejected, unreachable
from jobsd.client.connection import SocketConnection, url_connection

TIMEOUT_S = 30.0
PAGE = 200  # the API's largest
STREAM_S = 60.0  # without a sign of life, of which there is one every 15 s


class Client:
    """One daemon. Answers are decoded JSON; what it refuses is raised as `JobsdError`."""

    def __init__(self, address: Address, timeout_s: float = TIMEOUT_S) -> None:
        self.address = address
        self.prefix = urlsplit(address.url).path if address.url else ""
        self.connection = connection(address, timeout_s)

    def get(self, path: str, **query: object) -> Any:
        """`path` is below /api/v1; None in `query` is left out."""
        return self._ask("GET", path + query_string(query))

    def post(self, path: str, body: Mapping[str, Any] | None = None, idempotency_key: str | None = None) -> Any:
        self.connection.close()  # an idle connection that the daemon drops just now would leave open what became of it
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        return self._ask("POST", path, json.dumps(body or {}).encode(), headers)

    def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        self.connection.close()
        return self._ask("PATCH", path, json.dumps(body).encode())

    def delete(self, path: str, **query: object) -> Any:
        self.connection.close()  # as for a post
        return self._ask("DELETE", path + query_string(query))

    def pages(self, path: str, limit: int, **query: object) -> Iterator[Mapping[str, Any]]:
        """Up to `limit` items of a list, over as many pages as that takes."""
        cursor: str | None = None
        while limit > 0:
            page = self.get(path, **query, limit=min(limit, PAGE), cursor=cursor)
            yield from page["items"]
            limit -= len(page["items"])
            if not (cursor := page.get("cursor")) or not page["items"]:
                return

    @contextmanager
    def stream(self, path: str, last_id: str = "", **query: object) -> Iterator[http.client.HTTPResponse]:
        """A stream's answer, to be read line by line, on a connection of its own. Raises what an answer raises."""
        live = connection(self.address, STREAM_S)
        try:
            yield self._opened(live, f"{self.prefix}/api/v1{path}{query_string(query)}", last_id)
        finally:
            live.close()

    def _opened(self, live: http.client.HTTPConnection, target: str, last_id: str) -> http.client.HTTPResponse:
        place = {"Last-Event-ID": last_id} if last_id else {}
        try:
            live.request("GET", target, headers={"Accept": "text/event-stream", **self._credentials(), **place})
            response = live.getresponse()
            kind = response.headers.get_content_type()
            if response.status != 200 or kind != "text/event-stream":
                self._decoded(response.status, kind, response.read())
                raise not_jobsd(self.address, response.status, kind)
        except PermissionError as error:
            raise refused_socket(self.address) from error
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self.address, error) from error
        return response

    def _credentials(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.address.token}"} if self.address.token else {}

    def _ask(self, method: str, path: str, body: bytes | None = None, more: Mapping[str, str] | None = None) -> Any:
        headers = {"Accept": "application/json", **self._credentials(), **(more or {})}
        if body is not None:
            headers["Content-Type"] = "application/json"
        target = f"{self.prefix}/api/v1{path}"
        try:
            status, kind, answer = self._exchange(method, target, body, headers)
        except PermissionError as error:
            raise refused_socket(self.address) from error
        except (OSError, http.client.HTTPException) as error:
            raise unreachable(self.address, error) from error
        return self._decoded(status, kind, answer)

    def _exchange(
        self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
    ) -> tuple[int, str, bytes]:
        """Send and receive. A kept connection that has gone stale is opened anew, once, for a GET."""
        kept = self.connection.sock is not None
        try:
            self.connection.request(method, target, body, dict(headers))
            response = self.connection.getresponse()
            return response.status, response.headers.get_content_type(), response.read()
        except (http.client.HTTPException, OSError) as error:
            self.connection.close()
            if not kept or method != "GET" or isinstance(error, TimeoutError):
                raise
            return self._exchange(method, target, body, headers)

    def _decoded(self, status: int, kind: str, answer: bytes) -> Any:
        if not kind.endswith("json"):
            raise not_jobsd(self.address, status, kind)
        try:
            value = json.loads(answer)
        except ValueError as error:
            raise not_jobsd(self.address, status, kind) from error
        if status >= 400:
            raise rejected(status, value if isinstance(value, dict) else {}, str(self.address))
        return value


def connection(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    if address.socket:
        return SocketConnection(address.socket, timeout_s)
    return url_connection(address.url or "", timeout_s)


def query_string(query: Mapping[str, object]) -> str:
    """A name with several values is there several times; with none, not at all."""
    given = {key: value for key, value in query.items() if value is not None and value != ()}
    return f"?{urlencode(given, doseq=True)}" if given else ""


def segment(name: str) -> str:
    """A job's name or a run's id as one part of a path, whatever was typed."""
    return quote(name, safe="")


def client_of(ctx: click.Context) -> Client:
    """The daemon that this command's options, environment and configuration name."""
    client = Client(find(ctx.find_root().obj or {}))
    ctx.call_on_close(client.connection.close)
    return client
