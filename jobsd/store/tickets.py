"""Tickets: the starts that a job with a rate has, over all nodes. The claim takes them; here their number is kept."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from jobsd.domain.rate import StartRate
from jobsd.store.db import Db

Rates = Sequence[tuple[str, timedelta]]  # of each job with a rate, the time that its starts are counted in

FIT = """
    SELECT jobsd.fit_tickets(g.job, g.starts)
      FROM unnest($1::text[], $2::integer[]) AS g(job, starts)
     ORDER BY g.job
"""
# Of jobs that have no ticket left: when the first is theirs again.
NEXT_FREE = """
    SELECT min(oldest.used_at + g.per)
      FROM unnest($1::text[], $2::interval[]) AS g(job, per)
     CROSS JOIN LATERAL (
        SELECT t.used_at FROM jobsd.ticket t WHERE t.job = g.job ORDER BY t.used_at LIMIT 1) AS oldest
     WHERE oldest.used_at > now() - g.per
"""


async def fit(db: Db, rates: Mapping[str, StartRate]) -> None:
    """Have as many tickets for each job as its rate has starts. Of a smaller rate the latest uses still count."""
    if rates:
        await db.execute(FIT, list(rates), [rate.starts for rate in rates.values()])


async def next_free(db: Db, rates: Rates) -> datetime | None:
    """When a job that has used all its starts may start again; None when none has."""
    if not rates:
        return None
    at: datetime | None = await db.fetchval(NEXT_FREE, [job for job, _ in rates], [per for _, per in rates])
    return at
