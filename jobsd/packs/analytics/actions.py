"""What an operator may do: put a signal away."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from jobsd.sdk import Action, ActionContext, Refuse


class ArchiveSignal(BaseModel):
    """Which one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    signal: int = Field(ge=1, le=2**63 - 1, description="its id")


ARCHIVE = """
    UPDATE analytics.signal
       SET archived_at = now()
     WHERE id = $1 AND archived_at IS NULL
 RETURNING rule, course_id, period
"""
IS_THERE = "SELECT EXISTS (SELECT FROM analytics.signal WHERE id = $1)"


async def archive_signal(ctx: ActionContext, params: ArchiveSignal) -> dict[str, Any]:
    """Put a signal away for good: it stays, and no rule raises or changes it again."""
    row = await ctx.connection.fetchrow(ARCHIVE, params.signal)
    if row is None and await ctx.connection.fetchval(IS_THERE, params.signal):
        raise Refuse(f"signal {params.signal} is archived already")
    if row is None:
        raise Refuse(f"there is no signal {params.signal}")
    return dict(row)


ARCHIVE_SIGNAL = Action("archive_signal", "Archive", ArchiveSignal, archive_signal)
