"""jobsd: background jobs for a team, scheduled, queued and started by hand, on the PostgreSQL it already has."""

__version__ = "0.1.0"
