"""What schemathesis cannot read off the description: instants of the API lie between 2000 and 2199."""

from datetime import UTC, datetime

import schemathesis
from hypothesis import strategies as st

FIRST, LAST = datetime(2000, 1, 1), datetime(2199, 12, 31)

schemathesis.openapi.format(
    "date-time", st.datetimes(FIRST, LAST, timezones=st.just(UTC)).map(lambda at: at.isoformat())
)
