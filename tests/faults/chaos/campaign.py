"""Fault after fault, sometimes several at once or into a recovery, with how long each recovery took."""

import asyncio
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from time import monotonic

from tests.faults.chaos.inject import FAULTS, Fault
from tests.faults.chaos.site import Site

TOGETHER = ((1, 0.6), (2, 0.25), (3, 0.15))  # how many faults at once, how often
WAIT_FOR_HEALTH = 0.6  # how often the next fault waits until all is well again
WELL_S = 90.0


@dataclass(frozen=True, slots=True)
class Done:
    """A fault that was injected. `recovered_s` only of one that was alone, in a site that was well."""

    fault: Fault
    target: str
    alone: bool
    recovered_s: float | None = None


async def campaign(
    site: Site, random: Random, faults: int, told: Callable[[Done], None], among: Sequence[Fault] = FAULTS
) -> tuple[list[Done], list[str]]:
    """Inject at least so many; what was done, and which recoveries never came."""
    done: list[Done] = []
    stuck: list[str] = []
    well = True
    while len(done) < faults:
        many = random.choices([count for count, _ in TOGETHER], [share for _, share in TOGETHER])[0]
        chosen = random.choices(among, [fault.often for fault in among], k=many)
        measured = await asyncio.gather(*(_inject(site, random, fault, stuck) for fault in chosen))
        alone = many == 1 and well
        at = monotonic()
        well = False
        if random.random() < WAIT_FOR_HEALTH:
            well = await site.well(WELL_S)
            if not well:
                stuck.append(f"not well {WELL_S:g} s after {', '.join(fault.name for fault in chosen)}")
        for fault, (target, own_s) in zip(chosen, measured, strict=True):
            recovered_s = (monotonic() - at if own_s is None else own_s) if alone and well else None
            done.append(Done(fault, target, alone, recovered_s))
            told(done[-1])
        await asyncio.sleep(random.uniform(0, 0.8))
    return done, stuck


async def _inject(site: Site, random: Random, fault: Fault, stuck: list[str]) -> tuple[str, float | None]:
    node = random.choice(site.nodes)
    target = "the site" if fault.on_node is None else node.name
    try:
        if fault.on_node is not None:
            return target, await fault.on_node(site, node, random)
        assert fault.on_site is not None
        return target, await fault.on_site(site, random)
    except TimeoutError:
        stuck.append(f"{fault.name}, {target}: nobody helped")
        for each in site.nodes:  # what still sleeps is woken
            with suppress(ProcessLookupError):
                each.daemon.signal(signal.SIGCONT)
        return target, None
