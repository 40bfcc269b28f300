"""How long a registry of so many jobs takes to load: read, checked, its schedules made.

python benchmarks/registry_load.py [JOBS]
"""

import sys
import tempfile
from pathlib import Path
from time import perf_counter

from jobsd.domain.errors import JobsdError
from jobsd.registry.load import load

JOB = """\
[jobs.job_{n}]
description = "Job number {n} does its work"
command = ["/usr/bin/true", "--number", "{n}"]
schedule = {{ cron = "{minute} {hour} * * *", timezone = "Europe/Berlin", missed = "once" }}
timeout = "{timeout}"
retry = {{ attempts = 3, base = "1s" }}
params = {{ region = "eu", number = {n} }}

"""


def registry(jobs: int, timeout: str) -> str:
    return "".join(JOB.format(n=n, minute=n % 60, hour=n % 24, timeout=timeout) for n in range(jobs))


def seconds(file: Path) -> float:
    began = perf_counter()
    try:
        load(file, {})
    except JobsdError as error:
        str(error)
    return perf_counter() - began


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "jobsd.toml")
        for what, timeout in (("right", "10m"), ("wrong, each with a mistake", "10")):
            file.write_text(registry(jobs, timeout))
            print(f"{jobs} jobs, {what}: {min(seconds(file) for _ in range(3)):.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
