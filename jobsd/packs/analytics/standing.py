"""The one row of `analytics.standing`: how aggregates and signals stand, and the lock by which writers take turns."""

from datetime import datetime

from jobsd.sdk import Connection

LOCK = """
    SELECT
      FROM analytics.standing
       FOR UPDATE
"""


async def lock(connection: Connection) -> None:
    """Until the transaction's end nobody else counts or derives, so that nothing is overwritten by an older reading."""
    await connection.execute(LOCK)


MARK = """
    UPDATE analytics.standing
       SET pass_mark = $1
     WHERE pass_mark <> $1
"""
TOUCH_ALL = """
    INSERT INTO analytics.touched_day (day, course_id, events)
    SELECT DISTINCT day, course_id, 0
      FROM analytics.daily_aggregate
     WHERE pass_mark <> $1
"""


async def begin(connection: Connection, pass_mark: float) -> datetime:
    """Note all days when the pass mark is another one. Returns the database's time: all before it will be counted."""
    async with connection.transaction(isolation="read_committed"):
        if await connection.execute(MARK, pass_mark) == "UPDATE 1":
            await connection.execute(TOUCH_ALL, pass_mark)
        asked_at: datetime = await connection.fetchval("SELECT clock_timestamp()")
    return asked_at


FINISH = """
    UPDATE analytics.standing
       SET aggregated_at = greatest(aggregated_at, $1)
"""


async def finish(connection: Connection, asked_at: datetime) -> None:
    """Say that every event committed before `asked_at` is counted."""
    await connection.execute(FINISH, asked_at)


RULES = "SELECT rules FROM analytics.standing"
SET_RULES = """
    UPDATE analytics.standing
       SET rules = $1::jsonb
     WHERE rules IS DISTINCT FROM $1::jsonb
"""


async def rules(connection: Connection) -> str | None:
    """The rules of the last `generate_signals`, as JSON; None before the first."""
    stored: str | None = await connection.fetchval(RULES)
    return stored


async def set_rules(connection: Connection, stored: str) -> None:
    await connection.execute(SET_RULES, stored)
