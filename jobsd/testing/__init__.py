"""Runs jobs in tests: no daemon, a clock of the test's own, the real writes in a transaction that is rolled back.

Jobs' authors import it as `jobsd.sdk.testing`.
"""

from jobsd.testing.ended import Ended, Message
from jobsd.testing.trial import JobTest, job_test

__all__ = ["Ended", "JobTest", "Message", "job_test"]
