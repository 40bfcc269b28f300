"""Reading the configuration again: all of it or nothing. The difference goes to log, audit and whoever asked."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import orjson

from jobsd.daemon.node import Node
from jobsd.domain.errors import JobsdError
from jobsd.domain.events import Noted, RegistryReloaded
from jobsd.domain.lifecycle import fingerprint
from jobsd.domain.outcome import AlertRow
from jobsd.registry.load import Registry
from jobsd.registry.plan import Change, Plan, diff
from jobsd.store import alerts, jobs, nodes
from jobsd.web.deps import Changed, Reloaded
from jobsd.web.vitals import Reload

MOST_CHANGES = 200  # of keys, in one audit entry


class Reloader:
    """One reload at a time; the old registry stays until the new one is proved."""

    def __init__(self, node: Node, load: Callable[[], Registry]) -> None:
        self.last: Reload | None = None
        self.on_loaded: Callable[[Registry], None] = lambda _registry: None
        self._node = node
        self._load = load
        self._turn = asyncio.Lock()

    async def reload(self, actor: str, reason: str | None = None) -> Reloaded:
        """Load, check and switch. Raises `JobsdError` with all mistakes; then nothing has changed."""
        async with self._turn:
            try:
                registry = await asyncio.to_thread(self._load)
            except JobsdError as refused:
                await self._refuse(refused, actor)
                raise
            plan = diff(self._node.registry, registry)
            await self._switch(registry, plan, actor, reason)
            return Reloaded(
                plan=plan.line,
                added=list(plan.added),
                changed=[Changed(job=name, keys=_keys_of(plan, name)) for name in plan.changed],
                removed=list(plan.removed),
            )

    async def _switch(self, registry: Registry, plan: Plan, actor: str, reason: str | None) -> None:
        node, here = self._node, self._node.here
        await node.load(registry)
        await jobs.remove(here.db, plan.removed)
        await nodes.set_registry(here.db, here.keeper.node, registry.hash, registry.settings.daemon.pools)
        changes = [_told(each) for each in plan.changes[:MOST_CHANGES]]
        detail = {"plan": plan.line, "added": plan.added, "removed": plan.removed, "changes": changes}
        await jobs.audit(here.db, "reloaded", actor, reason=reason or "", detail=detail)
        self.last = Reload(datetime.now(UTC), True, plan.line)
        self.on_loaded(registry)
        here.observe(RegistryReloaded(True, plan.added, plan.changed, plan.removed))
        if plan.needs_restart:
            here.observe(Noted("settings_need_a_restart", "warning", {"settings": list(plan.needs_restart)}))

    async def _refuse(self, refused: JobsdError, actor: str) -> None:
        here = self._node.here
        self.last = Reload(datetime.now(UTC), False, refused.problems[0].message)
        here.observe(RegistryReloaded(False, error=str(refused)))
        summary = f"the configuration was refused: {refused.problems[0].message}"
        count = len(refused.problems)
        row = AlertRow(
            "CONFIG_REJECTED", fingerprint("CONFIG_REJECTED", here.who.name), summary, detail={"mistakes": count}
        )
        await jobs.audit(here.db, "reload_refused", actor, reason=summary)
        await alerts.raise_alerts(here.db, [row])
        self._node.alerter.wake()


def _keys_of(plan: Plan, job: str) -> list[str]:
    """What changed of one job: "timeout: 10m -> 20m"."""
    prefix = f"jobs.{job}."
    return [_told(change).removeprefix(prefix) for change in plan.changes if change.key.startswith(prefix)]


def _told(change: Change) -> str:
    """Values as JSON, text bare: "jobs.backup.timeout: 10m -> 20m"."""
    old, new = (value if isinstance(value, str) else orjson.dumps(value).decode() for value in (change.old, change.new))
    return f"{change.key}: {'none' if change.old is None else old} -> {'none' if change.new is None else new}"
