"""The mixed load: asks for runs over HTTP and in SQL, and remembers what was acknowledged; reports external runs."""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.faults.chaos.registry import JOBS, KEYS, Job
from tests.faults.chaos.site import NO_ANSWER, Node, Site
from tests.faults.chaos.witness import STEP_S, tell

ASKERS, PAUSE_S = 3, 0.6  # each asks for a run, then rests about so long
ENQUEUE = "SELECT jobsd.enqueue($1, $2::jsonb, $3, idempotency_key => $4)"
LONG = 250  # steps: longer than a rescue takes
GIVE_UP_S = 4.0  # an external program that cannot say that it lives stops before its run is stale


@dataclass(frozen=True, slots=True)
class Asked:
    """A run that was acknowledged."""

    run: int
    job: str
    key: str  # its idempotency key


class Load:
    """Runs until `stop`. The same request is made again, under its key, until it is answered."""

    def __init__(self, site: Site, random: Random) -> None:
        self.acknowledged: list[Asked] = []
        self._site = site
        self._random = random
        self._number = 0
        self._stopped = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._ask_for_runs()) for _ in range(ASKERS)]
        self._tasks += [asyncio.create_task(self._work_outside()) for _ in range(2)]

    async def stop(self) -> None:
        """Ask for nothing more; what is under way gets its answer, or none while nobody gives one."""
        self._stopped.set()
        await asyncio.gather(*self._tasks)

    async def _ask_for_runs(self) -> None:
        asked = [job for job in JOBS.values() if job.every_s is None and job.does != "external"]
        while not await self._rest(self._random.uniform(0.5, 1.5) * PAUSE_S):
            self._number += 1
            job, key = self._random.choice(asked), f"key {self._number}"
            params = {"key": self._random.randrange(KEYS), "steps": self._steps(job)}
            priority = self._random.randrange(10)
            while not self._stopped.is_set():
                run = await self._try(job.name, params, priority, key)
                if run is not None:
                    self.acknowledged.append(Asked(run, job.name, key))
                if run is not None or job.name == "passing":  # gone with a reload, perhaps
                    break
                await asyncio.sleep(0.1)

    def _steps(self, job: Job) -> int:
        """Most are short; of those whose key is not everybody's, some outlast a lease, and a few the rescue."""
        short = self._random.randint(1, 6)
        return short if job.lock == "shared" else self._random.choices([short, 60, LONG], [85, 9, 6])[0]

    async def _try(self, job: str, params: Mapping[str, Any], priority: int, key: str) -> int | None:
        """The run's id, if there is an answer."""
        with suppress(*NO_ANSWER):
            if self._random.random() < 0.5:
                async with self._site.connection() as con:
                    return int(await con.fetchval(ENQUEUE, job, json.dumps(params), priority, key, timeout=5))
            body = {"params": params, "priority": priority}
            status, answer = await self._random.choice(self._site.nodes).ask(
                "POST", f"/api/v1/jobs/{job}/runs", body, key
            )
            if status in (200, 201):
                return int(answer["id"])
        return None

    async def _rest(self, seconds: float) -> bool:
        """Whether it was stopped."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)
        return self._stopped.is_set()

    async def _work_outside(self) -> None:
        """A program that executes external runs: begins one, reports, ends it, through whichever node answers."""
        while not await self._rest(self._random.uniform(0.5, 1.5)):
            params = {"key": self._random.randrange(2)}
            with suppress(*NO_ANSWER):
                node = self._random.choice(self._site.nodes)
                status, run = await node.ask("POST", "/api/v1/jobs/outside/runs", {"params": params, "start": True})
                if status == 201:
                    self.acknowledged.append(Asked(run["id"], "outside", ""))
                    await self._report(run, JOBS["outside"].key_of(params, run["id"]))

    async def _report(self, run: Mapping[str, Any], key: str) -> None:
        def say(word: str) -> None:
            tell(str(self._site.log), word, "external", "outside", run["id"], run["attempts"], run["fence"], key)

        at, fence = f"/api/v1/runs/{run['id']}", {"fence": run["fence"]}
        say("begin")
        for _ in range(self._random.randint(1, 20)):
            await asyncio.sleep(STEP_S)
            if await self._until_answered(f"{at}/heartbeat", fence) != 200:
                return
            say("step")
        say("end")
        await self._until_answered(f"{at}/complete", fence)

    async def _until_answered(self, path: str, body: Mapping[str, Any]) -> int:
        """The status; 0 when nobody answered for so long that the run may be stale."""
        with suppress(TimeoutError):
            async with asyncio.timeout(GIVE_UP_S):
                while True:
                    node: Node = self._random.choice(self._site.nodes)
                    with suppress(*NO_ANSWER):
                        status, _ = await node.ask("POST", path, body, limit_s=1.0)
                        if status < 500:
                            return status
                    await asyncio.sleep(0.05)
        return 0
