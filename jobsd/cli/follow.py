"""Follows one run until it is over: its messages as they come, its progress, what became of it.

Asks the daemon again and again instead of keeping a stream open, so that a restart of the daemon in between does not
end the wait. How that looks is in `watch`.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

from jobsd.cli.client import Client
from jobsd.cli.watch import Message, Run, Watcher
from jobsd.domain.errors import Exit, JobsdError, problem

QUICKEST_S = 0.05
SLOWEST_S = 1.0
RESTART_S = 60.0  # how long a daemon may be away, restarting, before the wait is given up
OVER = ("completed", "failed", "cancelled")


def follow(client: Client, run: int, watcher: Watcher, deadline: float | None = None) -> Run:
    """Wait until `run` is over, telling `watcher`; return it as it ended.

    `deadline` is on the monotonic clock. Raises E0506 when it passes; the run itself goes on.
    """
    steady, last_id, before, wait_s = Patience(client, watcher, deadline), 0, None, QUICKEST_S
    while True:
        now = steady.get(f"/runs/{run}")
        for message in messages(steady.get, run, last_id):
            watcher.message(message)
            last_id = message["id"]
        seen = (now["state"], now.get("attempts"), now.get("progress"), now.get("step"), now.get("progress_note"))
        shape = (seen, last_id)
        if before is None or seen != before[0]:
            watcher.moved(now)
        if now["state"] in OVER:
            return dict(now)
        wait_s = QUICKEST_S if shape != before else min(wait_s * 1.5, SLOWEST_S)
        before = shape
        _sleep(wait_s, deadline, now)


def messages(get: Callable[..., Any], run: int, after: int = 0) -> Iterator[Message]:
    """What a run has said since the message `after`, page after page. `get` asks the API."""
    while page := get(f"/runs/{run}/messages", after=after)["items"]:
        yield from page
        after = page[-1]["id"]


def _sleep(wait_s: float, deadline: float | None, run: Run) -> None:
    left = SLOWEST_S if deadline is None else deadline - time.monotonic()
    if left <= 0:
        raise problem(
            "E0506",
            f"run {run['id']} of {run['job']} is still {run['state']}",
            f"it goes on: jobsd run logs {run['id']} --follow",
            exit_code=Exit.TIMED_OUT,
        )
    time.sleep(min(wait_s, left))


class Patience:
    """Asks on while a daemon that has answered before is away for a restart."""

    def __init__(self, client: Client, watcher: Watcher, deadline: float | None = None) -> None:
        self.client, self.watcher, self.deadline = client, watcher, deadline

    def get(self, path: str, **query: object) -> Any:
        gone_at: float | None = None
        while True:
            try:
                return self.client.get(path, **query)
            except JobsdError as error:
                if error.exit_code != Exit.UNREACHABLE:
                    raise
                now = time.monotonic()
                if gone_at is None:
                    gone_at = now
                    self.watcher.note(f"{error.problems[0].message}; asking on for {RESTART_S:.0f} s")
                if now - gone_at > RESTART_S or (self.deadline is not None and now > self.deadline):
                    raise
            time.sleep(SLOWEST_S / 2)
