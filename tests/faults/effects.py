"""Jobs that leave something in the database, exactly once."""

from jobsd.sdk import JobContext


async def writes(ctx: JobContext) -> None:
    async with ctx.transaction() as tx:
        await tx.execute(
            "INSERT INTO public.effect VALUES ($1, nullif(current_setting('jobsd.fence'), '')::bigint)", ctx.job
        )
