"""All that a job, and a pack of them, may import. What is here is stable; what is not here is internal."""

from jobsd.sdk.action import Action, ActionContext, Refuse
from jobsd.sdk.context import (
    Connection,
    JobContext,
    Pipeline,
    Step,
    SyncJobContext,
    SyncPipeline,
    SyncStep,
    SyncTransaction,
    Transaction,
)
from jobsd.sdk.control import Cancel, FenceLost, GiveUp, ProgressRefused, RetryLater, dry_run_aware
from jobsd.sdk.pack import Pack
from jobsd.sdk.view import Column, Filter, Fit, View

__all__ = [
    "Action",
    "ActionContext",
    "Cancel",
    "Column",
    "Connection",
    "FenceLost",
    "Filter",
    "Fit",
    "GiveUp",
    "JobContext",
    "Pack",
    "Pipeline",
    "ProgressRefused",
    "Refuse",
    "RetryLater",
    "Step",
    "SyncJobContext",
    "SyncPipeline",
    "SyncStep",
    "SyncTransaction",
    "Transaction",
    "View",
    "dry_run_aware",
]
