"""`python -m tests.faults.chaos --seed 7 --faults 200`: the campaign, its report, and 1 if anything was found."""

import argparse
import asyncio
import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from random import Random
from time import monotonic

from tests.faults.chaos import sabotages
from tests.faults.chaos.campaign import Done, campaign
from tests.faults.chaos.check import check
from tests.faults.chaos.gather import Sampler, began_at, gather
from tests.faults.chaos.inject import FAULTS, Fault
from tests.faults.chaos.load import Load
from tests.faults.chaos.report import Report
from tests.faults.chaos.site import site

WELL_S = 60.0


async def run(seed: int, faults: int, folder: Path, sabotage: str = "", *, loud: bool = False) -> Report:
    """One campaign in `folder`, to its report."""
    random = Random(seed)
    done: list[Done] = []

    def told(each: Done) -> None:
        done.append(each)
        if loud:
            took = "" if each.recovered_s is None else f" {each.recovered_s:.2f} s"
            print(
                f"{monotonic() - began_s:6.1f} s {len(done):4} {each.fault.name}, {each.target}{took}",
                file=sys.stderr,
                flush=True,
            )

    began_s = monotonic()
    async with site(folder, sabotage) as here:
        began = await began_at(here)
        load, sampler = Load(here, Random(seed)), Sampler(here)
        sampling = asyncio.create_task(sampler.run())
        load.start()
        try:
            _, unwell = await campaign(here, random, faults, told, _among(sabotage))
        finally:
            await load.stop()
        await here.reload()
        if not await here.well(WELL_S):
            unwell.append(f"not well {WELL_S:g} s after the last fault")
        history = await gather(here, load, sampler, began, unwell)
        sampling.cancel()
    return Report(seed, monotonic() - began_s, done, history, check(history))


def _among(sabotage: str) -> list[Fault]:
    return [fault for fault in FAULTS if fault.name.startswith(sabotages.REVEALED_BY.get(sabotage, ""))]


def main() -> int:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the report to this file, too")
    parser.add_argument("--sabotage", choices=sabotages.NAMES, default="", help="break a promise on purpose")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, left behind: logs, database, effects")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp(prefix="jobsd-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # either way nothing is left running
    try:
        report = asyncio.run(run(args.seed, args.faults, folder, args.sabotage, loud=True))
    finally:
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(report.text())
    if args.json:
        args.json.write_text(json.dumps(report.facts(), indent=2) + "\n")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
