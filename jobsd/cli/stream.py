"""Reads a stream of the daemon, and comes back with the last id when the connection is lost."""

import http.client
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jobsd.cli.client import Client
from jobsd.cli.follow import RESTART_S
from jobsd.domain.errors import Exit, JobsdError

PAUSE_S = 1.0  # before coming back


class Event(NamedTuple):
    name: str
    data: Mapping[str, Any]


@dataclass
class Stream:
    """One stream, over as many connections as it takes. `note` hears when the daemon is away."""

    client: Client
    path: str
    note: Callable[[str], None]
    query: Mapping[str, object] = field(default_factory=dict)
    last_id: str = ""

    def events(self) -> Iterator[Event]:
        """For ever. Raises E0403 when the daemon is away for longer than a restart takes."""
        gone_at: float | None = None
        while True:
            try:
                for event in self._once():
                    gone_at = None
                    if event is not None:
                        yield event
                lost = "the connection ended"
            except JobsdError as error:
                if error.exit_code != Exit.UNREACHABLE:
                    raise
                now = time.monotonic()
                gone_at = gone_at or now
                if now - gone_at > RESTART_S:
                    raise
                lost = error.problems[0].message
            except (OSError, http.client.HTTPException) as error:
                lost = f"the connection was lost: {error}"
            self.note(f"{lost}; coming back")
            time.sleep(PAUSE_S)

    def _once(self) -> Iterator[Event | None]:
        """The events of one connection; None for a block without one. Ends when the daemon ends it."""
        fields: dict[str, str] = {}
        with self.client.stream(self.path, self.last_id, **self.query) as response:
            while line := response.readline():
                text = line.decode().rstrip("\n")
                if text:
                    key, _, value = text.partition(":")
                    fields[key] = value.removeprefix(" ")
                    continue
                yield Event(fields.get("event", ""), json.loads(fields["data"])) if "data" in fields else None
                self.last_id = fields.get("id", self.last_id)
                fields = {}
