"""Every due slot has its decision: the ledger of each schedule has no gap, no overlap, and no open end (P1)."""

from datetime import timedelta

from tests.faults.chaos.history import History, Stretch
from tests.faults.chaos.registry import JOBS

MAKES_A_RUN = ("ran", "caught_up")


def undecided(history: History) -> list[str]:
    said = []
    for job in JOBS.values():
        if job.every_s is not None:
            rows = sorted((row for row in history.stretches if row.job == job.name), key=lambda row: row.slot_at)
            said += _gaps(history, job.name, rows, timedelta(seconds=job.every_s)) + _runs(history, job.name, rows)
    return said


def _gaps(history: History, job: str, rows: list[Stretch], every: timedelta) -> list[str]:
    if not rows:
        return [f"{job}: no slot was ever decided"]
    said = []
    if rows[0].slot_at - history.began_at > every:
        said.append(
            f"{job}: nothing before {rows[0].slot_at:%H:%M:%S}, though it was there at {history.began_at:%H:%M:%S}"
        )
    expected = rows[0].slot_at
    for row in rows:
        if row.slot_at != expected:
            said.append(f"{job}: expected a decision on {expected:%H:%M:%S}, then came {row.slot_at:%H:%M:%S}")
        if row.count != (row.to_at - row.slot_at) / every + 1:
            said.append(f"{job}: {row.count} slots from {row.slot_at:%H:%M:%S} to {row.to_at:%H:%M:%S}")
        if row.decision == "waiting":
            said.append(f"{job}: still waits on {row.slot_at:%H:%M:%S}")
        expected = row.to_at + every
    if expected <= history.ended_at:
        said.append(f"{job}: nothing from {expected:%H:%M:%S} on, though it went on to {history.ended_at:%H:%M:%S}")
    return said


def _runs(history: History, job: str, rows: list[Stretch]) -> list[str]:
    """A slot that ran has that run, and a run of a slot has its decision."""
    promised = {row.slot_at: row.run for row in rows if row.decision in MAKES_A_RUN}
    made = {run.slot_at: run.id for run in history.runs.values() if run.job == job and run.slot_at is not None}
    return [
        f"{job}: the slot {at:%H:%M:%S} is said to have run {promised.get(at)}, but there is {made.get(at)}"
        for at in sorted(promised.keys() | made.keys())
        if promised.get(at) != made.get(at)
    ]
