"""Tests of jobs: `async with job_test(url) as t: ended = await t.run("myapp.reports:daily")`.

No daemon runs. The run is stored, taken, executed and settled by jobsd's own statements, in one transaction that is
rolled back at the end of the block.
"""

from jobsd.testing import Ended, JobTest, Message, job_test

__all__ = ["Ended", "JobTest", "Message", "job_test"]
