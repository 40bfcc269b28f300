"""The text of docs/JOBS.md: a page for the people on call, so nothing of how a job is made."""

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import to_jsonable_python

from jobsd.cli import words
from jobsd.domain.describe import describe
from jobsd.domain.job import JobDefinition
from jobsd.domain.schedule import schedule_of
from jobsd.handlers import resolve
from jobsd.registry.load import Registry

HEAD = """\
# Jobs

What runs by itself, what for, and what to do when it fails. Written by `jobsd docs` from the registry: change the
registry, not this page.

Start a job by hand with `jobsd trigger JOB --wait`: the status is 0 when it completed and 9 when it did not. Add
`--dry-run` to have the run recorded without any work being done. Over HTTP the same is `POST /api/v1/jobs/JOB/runs`.
When a job will run, and why it does not, is told by `jobsd next JOB` and `jobsd job why JOB`.
"""


def page(registry: Registry) -> str:
    """The whole page; the same registry always gives the same text."""
    jobs = [registry.jobs[name] for name in sorted(registry.jobs)]
    return "\n".join([HEAD, *overview(jobs), *(line for job in jobs for line in section(job))])


def overview(jobs: list[JobDefinition]) -> Iterator[str]:
    yield "| Job | Purpose | When |"
    yield "| --- | --- | --- |"
    for job in jobs:
        yield f"| [{job.name}](#{anchor(job.name)}) | {cell(job.description)} | {cell(when(job))} |"
    yield ""


def section(job: JobDefinition) -> Iterator[str]:
    """One job, for whoever is called at night."""
    yield f"## {job.name}\n"
    if job.description:
        yield f"{job.description.strip()}\n"
    yield f"- **By hand:** {by_hand(job)}"
    yield f"- **When:** {when(job)}"
    yield f"- **Expected duration:** {job.runbook.duration or 'not declared'}; ended after {span(job)}"
    yield f"- **When it fails:** {on_failure(job)}"
    yield f"- **Owner:** {job.runbook.owner or 'not declared'}\n"
    yield from parameters(job)


def by_hand(job: JobDefinition) -> str:
    """The command; where another program does the work, what that has to do with it."""
    if job.external:
        return f"start its program; `jobsd trigger {job.name}` leaves a run for it to take"
    return f"`jobsd trigger {job.name} --wait`"


def when(job: JobDefinition) -> str:
    """Its schedule in plain English, and what else it waits for."""
    text = describe(schedule_of(job.schedule))
    waits = f", once {' and '.join(job.needs)} completed" if job.needs else ""
    return f"{text}{waits}{'' if job.enabled else ' (switched off)'}"


def span(job: JobDefinition) -> str:
    return words.span(job.limit.total_seconds())


def on_failure(job: JobDefinition) -> str:
    """What the registry says, and whether it is tried again without anybody's doing."""
    said = job.runbook.on_failure.strip()
    if said and not said.endswith((".", "!", "?")):
        said += "."
    tries = job.retry.attempts if job.retry else 0
    again = (
        f"It is tried again by itself up to {tries} time{'s' if tries > 1 else ''}" if tries else "It is not retried"
    )
    return f"{said} {again}; the failure is logged and alerted.".strip()


def parameters(job: JobDefinition) -> Iterator[str]:
    """A table of what a run of it can be given; nothing for a job that takes nothing."""
    known = declared(job)
    found = {**known, **{key: ("", value) for key, value in defaults(job).items() if key not in known}}
    if not found:
        return
    yield "| Parameter | Default | Meaning |"
    yield "| --- | --- | --- |"
    for key, (meaning, default) in found.items():
        yield f"| `{key}` | {default_of(default)} | {cell(meaning)} |"
    yield ""


REQUIRED = object()


def defaults(job: JobDefinition) -> Mapping[str, Any]:
    """As they are written: a secret that comes from a variable or a file is named, not told."""
    found: Mapping[str, Any] = job.public()["params"]
    return found


def declared(job: JobDefinition) -> Mapping[str, tuple[str, Any]]:
    """The parameters of the handler's model: meaning and default, the job's own defaults before the model's."""
    handler, own = resolve(job), defaults(job)
    if handler is None or handler.model is None:
        return {}
    found = {}
    for name, field in handler.model.model_fields.items():
        key = field.alias or name
        default = REQUIRED if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True))
        found[key] = (field.description or "", own.get(key, default))
    return found


def default_of(value: Any) -> str:
    return "required" if value is REQUIRED else f"`{cell(words.compact(value))}`"


def cell(text: str) -> str:
    """Text within a table's cell."""
    return " ".join(text.split()).replace("|", "\\|")


def anchor(heading: str) -> str:
    """The fragment that Markdown renderers give a heading."""
    return "".join(c for c in heading.lower() if c.isalnum() or c in "-_")
