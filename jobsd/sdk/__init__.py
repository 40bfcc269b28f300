"""All that a job, and a pack of them, may import. What is here is stable; what is not here is internal."""

from jobsd.sdk.context import Connection, JobContext, SyncJobContext
from jobsd.sdk.control import dry_run_aware
from jobsd.sdk.pack import Pack

__all__ = ["Connection", "JobContext", "Pack", "SyncJobContext", "dry_run_aware"]
