"""Handlers that give away what they can."""

import os

from jobsd.sdk import JobContext


async def tells_what_it_knows(ctx: JobContext) -> None:
    known = " ".join(value for name, value in os.environ.items() if name.endswith(("_TOKEN", "_PASSWORD", "_URL")))
    await ctx.info(f"I know {known}")
    raise RuntimeError(f"and I tell: {known}")
