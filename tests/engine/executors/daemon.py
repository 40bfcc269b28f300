"""A stand-in for the daemon: executes one command under a guardian, renews its lease while it can, prints the outcome.

`python -m tests.engine.executors.daemon STATE_DIR LEASE_S ARGV...`. Tests kill and freeze it.
"""

import asyncio
import sys
import threading
import time
from pathlib import Path

from jobsd.engine.executors.base import execute
from tests.engine.executors.bench import Bench, boottime_ns


def renew_for_ever(bench: Bench, lease_s: float) -> None:
    while True:
        bench.guardians.renew(boottime_ns(lease_s))
        time.sleep(lease_s / 10)


async def main(state_dir: str, lease_s: str, *argv: str) -> None:
    bench = Bench(Path(state_dir), float(lease_s))
    threading.Thread(target=renew_for_ever, args=(bench, float(lease_s)), daemon=True).start()
    print(await execute(bench.execution(command=argv)), flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
