"""Learning analytics: events of a learning platform become daily aggregates, and these become signals.

Its tables are the schema `analytics` (sql/analytics), its jobs are in config/jobs.d/analytics.toml.
"""

from jobsd.packs.analytics.actions import ARCHIVE_SIGNAL
from jobsd.packs.analytics.views import DAILY_AGGREGATES, SIGNALS
from jobsd.sdk import Pack

PACK = Pack(name="analytics", title="Analytics", views=(SIGNALS, DAILY_AGGREGATES), actions=(ARCHIVE_SIGNAL,))
