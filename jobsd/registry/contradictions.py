"""Keys of one job that cannot hold together: one promises what another excludes."""

from collections.abc import Iterator, Mapping

from jobsd.domain.errors import Problem
from jobsd.domain.job import JobDefinition
from jobsd.registry.sources import Sources


def contradictions(jobs: Mapping[str, JobDefinition], sources: Sources) -> Iterator[Problem]:
    """E0228 for every key that another key of its job excludes, at its place."""
    for name, job in jobs.items():
        for key, message, way_out in _of(job):
            yield Problem(
                "E0228", f"jobs.{name}.{key}: {message}", sources.place(("jobs", name, key)), hints=(way_out,)
            )


def _of(job: JobDefinition) -> Iterator[tuple[str, str, str]]:
    said = job.model_fields_set
    if job.atomic and "progress" in said and job.progress:
        yield (
            "progress",
            "an atomic job completes or fails as a whole and shows no progress",
            "leave out one of the two",
        )
    if job.atomic and "keep" in said and job.keep != "forever":
        yield "keep", "runs of an atomic job are never deleted", 'leave it out, or keep = "forever"'
    if job.external and job.restartable:
        way_out = "a program that falls silent is retried as its retry says"
        yield "restartable", "jobsd cannot start an external job's program again", way_out
    if "isolation" in said and job.handler is None:
        yield "isolation", f"says where a handler runs, and this job has {job.kind}", "leave it out"
    if job.needs and job.schedule is None:
        yield "needs", "due slots wait for other jobs, and this job has no schedule", "give it one, or leave this out"
    if "needs_within" in said and not job.needs:
        yield "needs_within", "how long due slots wait, and for no job", 'say which: needs = ["JOB"]'
