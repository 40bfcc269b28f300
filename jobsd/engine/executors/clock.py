"""The clock that a job asks. A test gives it another one."""

from datetime import UTC, datetime


def utc_now() -> datetime:
    return datetime.now(UTC)
