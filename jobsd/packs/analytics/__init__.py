"""Learning analytics: events of a learning platform become daily aggregates, and these become signals.

Its tables are the schema `analytics` (sql/analytics), its jobs are in config/jobs.d/analytics.toml.
"""

from jobsd.sdk import Pack

PACK = Pack(name="analytics", title="Analytics")
