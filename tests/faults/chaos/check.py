"""All checks by name: what is counted, and how often it was found. Everything is to be 0."""

from collections.abc import Mapping

from tests.faults.chaos import record
from tests.faults.chaos.history import History
from tests.faults.chaos.ledger import undecided
from tests.faults.chaos.overlaps import crowds, overlaps


def check(history: History) -> Mapping[str, list[str]]:
    """Each count with the words for every one that was found."""
    return {
        "overlaps of a lock key": overlaps(history),
        "more at once than the concurrency": crowds(history),
        "runs lost, or not over": record.lost(history),
        "completed without having ended": record.unfounded(history),
        "runs completed twice": record.completed_twice(history),
        "executed again, undeclared": record.executed_undeclared(history),
        "executions not recorded": record.unrecorded(history),
        "runs doubled": record.doubled(history),
        "slots not decided": undecided(history),
        "terminal states changed": record.changed(history),
        "effects not exactly once": record.effects(history),
        "orphaned processes": list(history.orphans),
        "audit chain broken": [history.audit_verdict] if history.audit_verdict else [],
        "nodes not well": list(history.unwell),
    }
