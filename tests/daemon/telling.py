"""A job that tells of itself, for daemons that are followed."""

import asyncio
from pathlib import Path

from jobsd.sdk import JobContext

PAUSE_S = 0.02


async def tells(ctx: JobContext) -> dict[str, int]:
    """Messages and progress in `params.steps` steps; fails at first if `params.fails`, then waits for a file `go`."""
    steps = ctx.params["steps"]
    for step in range(steps):
        await ctx.info(f"attempt {ctx.attempt} step {step}")
        await ctx.progress((step + 1) / steps, f"step {step}")
    if ctx.attempt <= ctx.params["fails"]:
        raise ConnectionError(f"attempt {ctx.attempt} is meant to fail")
    while ctx.params.get("waits") and not Path("go").exists():
        await asyncio.sleep(PAUSE_S)
    return {"steps": steps}
