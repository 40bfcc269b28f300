"""Ways to break a promise on purpose, in daemons that the harness starts: what `sabotage/sitecustomize.py` loads.

Nothing of this is in the product: Python imports a `sitecustomize` that lies on its path, and only the harness puts it
there. Each is to be found out by the checks.
"""

import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

ALL = ""
REVEALED_BY = {  # each with the faults, by their names' beginning, under which it is sure to be seen
    "no-lock": ALL,
    "no-fence": "daemon: SIGSTOP, rescued",
    "no-lease": "daemon: SIGSTOP, rescued",
    "no-subreaper": ALL,
    "drop-settlement": ALL,
    "restart-all": "daemon: SIGKILL",
    "skip-slot": ALL,
}
NAMES = tuple(REVEALED_BY)
RARELY = 0.05


def commit(name: str) -> None:
    """Break it, in this process."""
    {
        "no-lock": _no_lock,
        "no-fence": _no_fence,
        "no-lease": _no_lease,
        "no-subreaper": _no_subreaper,
        "drop-settlement": _drop_settlement,
        "restart-all": _restart_all,
        "skip-slot": _skip_slot,
    }[name]()


def _no_lock() -> None:
    """A claim takes no advisory lock and looks at no key that is held; the harness drops the index on running keys."""
    from jobsd.store import runs

    runs.CLAIM = _without(
        runs.CLAIM,
        ("pg_try_advisory_lock($7, lock_key)", "($7::integer IS NOT NULL)"),
        ("AND NOT EXISTS (SELECT FROM jobsd.run h WHERE h.held = q.lock_key)", ""),
    )


def _no_fence() -> None:
    """A settlement is taken whoever sends it, as long as the run is running."""
    from jobsd.store import history

    history.SETTLE = _without(
        history.SETTLE,
        (
            "WHERE r.id = g.run AND r.fence = g.fence AND r.state = 'running'",
            "WHERE r.id = g.run AND r.state = 'running'",
        ),
    )


def _no_lease() -> None:
    """Guardians are told of a lease that lasts an hour longer."""
    from jobsd.engine.executors.guardians import Guardians

    renew = Guardians.renew
    Guardians.renew = lambda self, until_ns: renew(self, until_ns + 3600 * 10**9)  # type: ignore[method-assign]


def _no_subreaper() -> None:
    """A guardian is no subreaper: what takes a session of its own is out of its sight once its parent has ended."""
    from jobsd.engine.executors import guardians

    text = guardians.SCRIPT.read_text()
    blind = Path.cwd() / "blind" / "guardian.py"
    blind.parent.mkdir(exist_ok=True)
    blind.write_text(_without(text, ("libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)", "pass")))
    guardians.SCRIPT = blind


def _drop_settlement() -> None:
    """Now and then a settlement is forgotten, and its locks are given back."""
    from jobsd.engine.settler import Settler

    settle = Settler.settle

    async def forgetful(self: Any, ended: Any, keys: Sequence[Any], *, written: bool = False) -> bool:
        if not written and random.random() < RARELY:
            await self._here.keeper.unlock(keys, ended.node)
            return True
        return await settle(self, ended, keys, written=written)

    Settler.settle = forgetful  # type: ignore[method-assign]


def _restart_all() -> None:
    """Every job's lost runs are queued again, whatever it declares."""
    from dataclasses import replace

    from jobsd.daemon.prepared import Prepared

    policy = Prepared.policy
    Prepared.policy = lambda self, job: replace(policy(self, job), restartable=True)  # type: ignore[method-assign]


def _skip_slot() -> None:
    """Now and then a schedule goes past a slot, and leaves no decision."""
    from jobsd.store import slots

    decide: Callable[..., Awaitable[Any]] = slots.decide

    async def careless(db: Any, moves: Any, wanted: Any, node: Any) -> Any:
        return await decide(db, moves, [each for each in wanted if random.random() > RARELY], node)

    slots.decide = careless  # type: ignore[assignment]


def _without(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        if old not in text:
            raise SystemExit(f"the product has changed, there is nothing left to break here: {old}")
        text = text.replace(old, new)
    return text
