"""Programs that commands run: whoever can replace one decides what runs here, as much as who writes the registry."""

import shutil
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from jobsd.domain.errors import Problem
from jobsd.domain.job import JobDefinition
from jobsd.registry.files import Loose, open_to_all
from jobsd.registry.sources import Sources


def replaceable(jobs: Mapping[str, JobDefinition], sources: Sources, environ: Mapping[str, str]) -> Iterator[Problem]:
    """E0230 for each that anyone can replace. Of a command the program alone is looked at, not its arguments.

    One that is not there is passed over: the registry may be meant for another machine.
    """
    found = lru_cache(_found)
    for name, job in jobs.items():
        if not job.command:
            continue
        program = found(job.command[0], job.cwd or "", job.env.get("PATH", environ.get("PATH", "")))
        if program:
            file, loose = program
            message, way_out = loose.told(file, "whoever replaces it decides what runs here")
            place = sources.place(("jobs", name, "command", 0))
            yield Problem("E0230", f"jobs.{name}.command: {message}", place, hints=(way_out,))


def _found(program: str, cwd: str, path: str) -> tuple[Path, Loose] | None:
    """The file that is started, if anyone can replace it."""
    file = str(Path(cwd, program)) if "/" in program else shutil.which(program, path=path)
    try:
        return (Path(file), loose) if file and (loose := open_to_all(Path(file))) else None
    except OSError:
        return None
